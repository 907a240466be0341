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

/* Columns of a panel, and rows of a tile, whose sums fill the registers. */
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

INLINE float add_up(v8 x) {
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

#endif
