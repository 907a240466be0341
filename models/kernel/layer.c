/* One layer of rows, tile by tile. */

#include "row.h"

/* One tile: R rows of `a`, 16 columns, from sums that start at rows `lds` apart. */
INLINE void tile(const int R, const int jumps_rows, const int jumps_weights, const float *a,
                 int64_t lda, Inputs inputs, const float *panel, const float *start, int64_t lds,
                 int is_hidden, const v8 (*noise)[2], float *out, int64_t ldo) {
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
        if (noise) low *= noise[r][0], high *= noise[r][1];
        *(v8 *)(out + r * ldo) = low;
        *(v8 *)(out + r * ldo + 8) = high;
    }
}

FAST void layer(const float *a, int64_t lda, int64_t rows, Inputs inputs, int64_t n_in,
                int64_t n_out, const float *panels, const float *start, int64_t lds, int is_hidden,
                const Mask *mask, int64_t sample, int64_t rows_per_sample, float *out,
                int64_t ldo) {
    const int64_t n_tiles = (rows + TILE - 1) / TILE;
    const int jumps = (inputs.of_rows != NULL) + 2 * (inputs.of_weights != NULL);
    int64_t column = 0;
    if (rows == 1 && !jumps)
        for (; column + FEW * WIDTH <= n_out; column += FEW * WIDTH, panels += n_in * FEW * WIDTH)
            one_row(0, a, inputs, panels, n_in, start + column, is_hidden, mask, sample, column,
                    out + column);
    for (; column < n_out; column += WIDTH, panels += n_in * WIDTH)
        for (int64_t t = 0; t < n_tiles; t++) {
            /* Tiles of equal height, as far as possible. */
            const int64_t first = rows * t / n_tiles, n = rows * (t + 1) / n_tiles - first;
            v8 noise[TILE][2];
            for (int64_t r = 0; mask && r < n; r++) {
                const int64_t own = sample + (first + r) / rows_per_sample;
                noise[r][0] = noise_of(mask, own, column);
                noise[r][1] = noise_of(mask, own, column + 8);
            }
            const float *from = a + first * lda;
            float *to = out + first * ldo + column;
#define OF_HEIGHT(R, JUMPS)                                                                       \
    case R + 8 * (JUMPS):                                                                         \
        tile(R, (JUMPS) & 1, (JUMPS) & 2, from, lda, inputs, panels,                              \
             start + first * lds + column, lds, is_hidden, mask ? noise : NULL, to, ldo);         \
        break;
#define THAT_JUMPS(JUMPS)                                                                         \
    OF_HEIGHT(1, JUMPS) OF_HEIGHT(2, JUMPS) OF_HEIGHT(3, JUMPS)                                   \
    OF_HEIGHT(4, JUMPS) OF_HEIGHT(5, JUMPS) OF_HEIGHT(6, JUMPS)
            switch (n + 8 * jumps) { THAT_JUMPS(0) THAT_JUMPS(1) THAT_JUMPS(2) THAT_JUMPS(3) }
        }
}
