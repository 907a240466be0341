/* Sixty-four columns of a single row. */

#ifndef DROPCAST_ROW_H
#define DROPCAST_ROW_H

#include "mask.h"

/* Panels whose sums keep the processor busy. */
enum { FEW = 4 };

/* out (64,) = [ReLU](a @ weight + start) [· mask], the sums in registers; with jumps over the same
 * inputs of the row and of the weights. The mask is that of a sample, from this column on. */
INLINE void one_row(const int jumps, const float *a, Inputs inputs, const float *panel, int64_t n_in,
                    const float *start, int is_hidden, const Mask *mask, int64_t sample,
                    int64_t column, float *out) {
    v8 sum[FEW][2];
#pragma GCC unroll 4
    for (int c = 0; c < FEW; c++) {
        sum[c][0] = *(const v8 *)(start + WIDTH * c);
        sum[c][1] = *(const v8 *)(start + WIDTH * c + 8);
    }
    for (int64_t i = 0; i < inputs.count; i++) {
        const int64_t k = jumps ? inputs.of_rows[i] : i;
        const float *weights = panel + WIDTH * k;
        const float input = a[k];
#pragma GCC unroll 4
        for (int c = 0; c < FEW; c++, weights += n_in * WIDTH) {
            sum[c][0] += input * *(const v8 *)weights;
            sum[c][1] += input * *(const v8 *)(weights + 8);
        }
    }
#pragma GCC unroll 4
    for (int c = 0; c < FEW; c++)
        for (int half = 0; half < 2; half++) {
            v8 value = sum[c][half];
            if (is_hidden) value = relu(value);
            if (mask) value *= noise_of(mask, sample, column + WIDTH * c + 8 * half);
            *(v8 *)(out + WIDTH * c + 8 * half) = value;
        }
}

#endif
