// candle's kernels, as far as something here asks for one.
#include "kernels.h"

#include <cstring>

using namespace standin;

const Kernel* standin::find_candles(const char*) { return nullptr; }
