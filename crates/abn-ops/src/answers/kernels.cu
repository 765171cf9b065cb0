#include "cuda/kernel.h"
#include "loss/tasks.h"

// The answers (n, all) of several tasks: of one score whether it is above 0, of several the first of the highest.
KERNEL(task_answers)(const WHOLE Tasks tasks, u32* answers, i64 n, i64 all) {
    const Task& task = tasks.at[blockIdx.y];
    for (i64 sample = first(); sample < n; sample += stride()) {
        const T* row = task.scores + sample * task.k;
        A highest = wide(row[0]);
        u32 answer = task.k == 1 && highest > 0;
        for (i64 i = 1; i < task.k; i++)
            if (wide(row[i]) > highest) highest = wide(row[i]), answer = u32(i);
        answers[sample * all + task.column] = answer;
    }
}
