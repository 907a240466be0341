/* One layer of rows, tile by tile. */

#include "network.h"

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

FAST void layer(const float *a, int64_t lda, int64_t rows, Inputs inputs, int64_t n_in,
                int64_t n_out, const float *panels, const float *start, int64_t lds, int is_hidden,
                const float *mask, int64_t rows_per_mask, float *out, int64_t ldo) {
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
