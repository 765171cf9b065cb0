#include "cuda/kernel.h"

// A tensor of a table: its elements, and the first of the blocks that handle them.
struct Item {
    T* target;          // a parameter; the average
    T* velocity;        // null without momentum; null
    const T* source;    // its gradient; the value
    i64 count, block;
};

// As many as a kernel's arguments hold (4 KiB), with room for the rest.
const int ITEMS = 96;

struct Table {
    Item items[ITEMS];
    i64 count;
};

// The item of this block: the last that does not begin after it. And the block's elements of it.
DEVICE Item item_of(const Table& table, i64 chunk, i64& start, i64& end) {
    int low = 0, high = int(table.count) - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (table.items[middle].block <= i64(blockIdx.x)) low = middle;
        else high = middle - 1;
    }
    Item item = table.items[low];
    start = (blockIdx.x - item.block) * chunk;
    end = start + chunk < item.count ? start + chunk : item.count;
    return item;
}

// The learning rate is the one at `lr_at`, if that is not null.
KERNEL(sgd)(const WHOLE Table table, i64 chunk, double lr_, double momentum_, double decay_, i64 nesterov, i64 fresh,
            const double* lr_at) {
    A lr = A(lr_at ? *lr_at : lr_), momentum = A(momentum_), decay = A(decay_);
    i64 start, end;
    Item item = item_of(table, chunk, start, end);
    for (i64 i = start + threadIdx.x; i < end; i += blockDim.x) {
        A p = wide(item.target[i]);
        A g = mul_add(decay, p, wide(item.source[i])), step = g;
        if (item.velocity) {
            A v = fresh ? g : mul_add(momentum, wide(item.velocity[i]), g);
            item.velocity[i] = narrow(v);
            step = nesterov ? mul_add(momentum, v, g) : v;
        }
        item.target[i] = narrow(mul_add(-lr, step, p));
    }
}

// target += share · (source − target)
KERNEL(ema)(const WHOLE Table table, i64 chunk, double share) {
    i64 start, end;
    Item item = item_of(table, chunk, start, end);
    for (i64 i = start + threadIdx.x; i < end; i += blockDim.x) {
        A average = wide(item.target[i]);
        item.target[i] = narrow(average + A(share) * (wide(item.source[i]) - average));
    }
}
