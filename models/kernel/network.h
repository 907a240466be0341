/* The arithmetic of small requests: masks, thinned networks, their linearisation, moments, quantiles.
 *
 * What torch does with a few hundred numbers takes microseconds a call whatever the size, and an
 * answer needs hundreds of calls; here it is one. The Python modules beside it call it, and
 * everything here has its counterpart in torch or NumPy, which serves where this was not
 * compiled.
 *
 * Matrices are row-major float32. Weights lie in panels of 16 columns: (out / 16, in, 16), the
 * last filled up with zeros. A sum over inputs goes in their order, one multiply-add after the other
 * (fused where the processor can), so that a row's bits depend on nothing beside it; a unit that is dropped adds
 * nothing, and may be left out.
 */

#ifndef DROPCAST_NETWORK_H
#define DROPCAST_NETWORK_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__x86_64__) || !defined(__GNUC__) || defined(__clang__)
#define FAST
#elif __GNUC__ >= 12
#define FAST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FAST __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t i8 __attribute__((vector_size(32), aligned(4), may_alias));

/* A tile's sums fill the registers. */
enum { WIDTH = 16, TILE = 6 };

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

/* Which inputs a sum goes over: `count` of them, at the places `of_rows` of the rows and
 * `of_weights` of the weights; NULL is the first ones. */
typedef struct {
    int64_t count;
    const int32_t *of_rows, *of_weights;
} Inputs;

/* One tile: R rows of `a`, 16 columns, from sums that start at rows `lds` apart. */
INLINE void tile(const int R, const int jumps_rows, const int jumps_weights, const float *a,
                 int64_t lda, Inputs inputs, const float *panel, const float *start, int64_t lds,
                 int is_hidden, const float *const *masks, float *out, int64_t ldo) {
    v8 sum[TILE][2];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        sum[r][0] = *(const v8 *)(start + r * lds);
        sum[r][1] = *(const v8 *)(start + r * lds + 8);
    }
    for (int64_t i = 0; i < inputs.count; i++) {
        const int64_t k = jumps_rows ? inputs.of_rows[i] : i;
        const float *weights = panel + WIDTH * (jumps_weights ? inputs.of_weights[i] : i);
        const v8 low = *(const v8 *)weights, high = *(const v8 *)(weights + 8);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            sum[r][0] += a[r * lda + k] * low;
            sum[r][1] += a[r * lda + k] * high;
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

/* out (rows, padded n_out) = [ReLU](a @ weight + start) [· mask]; row r has the mask
 * r / rows_per_mask of those given, each of n_out numbers, and starts from row r of `start`, rows of
 * which are `lds` apart (0: all from a bias). A panel has n_in rows. */
INLINE void layer(const float *a, int64_t lda, int64_t rows, Inputs inputs, int64_t n_in,
                  int64_t n_out, const float *panels, const float *start, int64_t lds,
                  int is_hidden, const float *mask, int64_t rows_per_mask, float *out,
                  int64_t ldo) {
    const int64_t n_tiles = (rows + TILE - 1) / TILE;
    const int jumps = (inputs.of_rows != NULL) + 2 * (inputs.of_weights != NULL);
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
#define OF_HEIGHT(R, JUMPS)                                                                       \
    case R + 8 * (JUMPS):                                                                         \
        tile(R, (JUMPS) & 1, (JUMPS) & 2, from, lda, inputs, panels,                              \
             start + first * lds + column, lds, is_hidden, mask ? masks : NULL, to, ldo);         \
        break;
#define THAT_JUMPS(JUMPS)                                                                         \
    OF_HEIGHT(1, JUMPS) OF_HEIGHT(2, JUMPS) OF_HEIGHT(3, JUMPS)                                   \
    OF_HEIGHT(4, JUMPS) OF_HEIGHT(5, JUMPS) OF_HEIGHT(6, JUMPS)
            switch (n + 8 * jumps) { THAT_JUMPS(0) THAT_JUMPS(1) THAT_JUMPS(2) THAT_JUMPS(3) }
        }
    }
}

INLINE float add_up(v8 x) {
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

#endif
