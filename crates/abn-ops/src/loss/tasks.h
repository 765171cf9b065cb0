// The tasks of a kernel that handles several at once.
#pragma once

#include "cuda/kernel.h"

// A task's scores (n, k), their gradient, and the column of its labels.
struct Task {
    const T* scores;
    T* gradient; // null where there is none
    i64 k, column;
};

// As many as a kernel's arguments hold (4 KiB), with room for the rest.
struct Tasks {
    Task at[96];
};
