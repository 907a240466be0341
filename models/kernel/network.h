/* The arithmetic of small requests: thinned networks, their linearisation, quantiles of mixtures.
 *
 * What torch does with a few hundred numbers takes microseconds a call whatever the size, and an
 * answer needs hundreds of calls; here it is one. The Python modules beside it call it, and
 * everything here has its counterpart in torch or NumPy, which serves where this was not
 * compiled.
 *
 * Matrices are row-major float32. Weights lie in panels of 16 columns: (out / 16, in, 16), the
 * last filled up with zeros. A sum over inputs goes in their order, one fused multiply-add after
 * the other, so that a row's bits depend on nothing beside it; a unit that is dropped adds
 * nothing, and may be left out.
 */

#ifndef DROPCAST_NETWORK_H
#define DROPCAST_NETWORK_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FAST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FAST
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t i8 __attribute__((vector_size(32), aligned(4), may_alias));

/* Rows of a tile fill the registers; those of a block, with their activations, a cache. From so many
 * rows on that share a mask what it drops is left out. */
enum { WIDTH = 16, TILE = 6, BLOCK = 96, LEAST_TO_THIN = 4 };

/* `n_layers` linear layers with ReLU between them. `sizes` are of the inputs, the hidden layers and
 * the raw outputs. `readout`, of regressions, is the last layer's weight once more, (raw outputs,
 * inputs filled up to 16); of other networks NULL. */
typedef struct {
    int64_t n_layers;
    const int64_t *sizes;
    const float *const *panels;
    const float *const *biases;
    const float *readout;
    float least_log_variance, most_log_variance;
} Network;

static inline int64_t padded(int64_t size) { return (size + WIDTH - 1) / WIDTH * WIDTH; }

INLINE v8 relu(v8 x) { return (v8)((i8)x & ~(x < 0)); } /* NaN stays */

/* One tile: R rows of `a`, 16 columns. `kept` are the inputs to add, all of them if NULL. */
INLINE void tile(const int R, const float *a, int64_t lda, const int32_t *kept, int64_t n_kept,
                 const float *panel, const float *bias, int is_hidden, const float *const *masks,
                 float *out, int64_t ldo) {
    v8 sum[TILE][2];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        sum[r][0] = *(const v8 *)bias;
        sum[r][1] = *(const v8 *)(bias + 8);
    }
    if (kept) {
        for (int64_t i = 0; i < n_kept; i++) {
            const int64_t k = kept[i];
            const v8 b0 = *(const v8 *)(panel + WIDTH * k), b1 = *(const v8 *)(panel + WIDTH * k + 8);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) {
                sum[r][0] += a[r * lda + k] * b0;
                sum[r][1] += a[r * lda + k] * b1;
            }
        }
    } else {
        for (int64_t k = 0; k < n_kept; k++) {
            const v8 b0 = *(const v8 *)(panel + WIDTH * k), b1 = *(const v8 *)(panel + WIDTH * k + 8);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) {
                sum[r][0] += a[r * lda + k] * b0;
                sum[r][1] += a[r * lda + k] * b1;
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        v8 low = sum[r][0], high = sum[r][1];
        if (is_hidden) low = relu(low), high = relu(high);
        if (masks) low *= *(const v8 *)masks[r], high *= *(const v8 *)(masks[r] + 8);
        *(v8 *)(out + r * ldo) = low;
        *(v8 *)(out + r * ldo + 8) = high;
    }
}

/* out (rows, padded n_out) = [ReLU](a @ weight + bias) [· mask]; row r has the mask
 * r / rows_per_mask of those given, each of n_out numbers. */
INLINE void layer(const float *a, int64_t lda, int64_t rows, const int32_t *kept, int64_t n_kept,
                  int64_t n_in, int64_t n_out, const float *panels, const float *bias,
                  int is_hidden, const float *mask, int64_t rows_per_mask, float *out,
                  int64_t ldo) {
    const int64_t n_tiles = (rows + TILE - 1) / TILE;
    for (int64_t column = 0; column < n_out; column += WIDTH, panels += n_in * WIDTH) {
        const int64_t width = n_out - column < WIDTH ? n_out - column : WIDTH;
        float tail[TILE][WIDTH] = {{0}};
        for (int64_t t = 0; t < n_tiles; t++) {
            /* Tiles of equal height, as far as possible. */
            const int64_t first = rows * t / n_tiles, n = rows * (t + 1) / n_tiles - first;
            const float *masks[TILE];
            if (mask)
                for (int64_t r = 0; r < n; r++) {
                    masks[r] = mask + (first + r) / rows_per_mask * n_out + column;
                    if (width < WIDTH) {
                        memcpy(tail[r], masks[r], width * sizeof(float));
                        masks[r] = tail[r];
                    }
                }
            const float *from = a + first * lda;
            float *to = out + first * ldo + column;
#define CASE(R)                                                                                   \
    case R:                                                                                       \
        tile(R, from, lda, kept, n_kept, panels, bias + column, is_hidden, mask ? masks : NULL,   \
             to, ldo);                                                                            \
        break;
            switch (n) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) }
        }
    }
}


INLINE float add_up(v8 x) {
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

#endif
