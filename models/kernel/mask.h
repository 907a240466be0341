/* The noise of samples at one site. */

#ifndef DROPCAST_MASK_H
#define DROPCAST_MASK_H

#include "network.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bits of masks are read as bytes and as words"
#endif

/* Either `bits`, a row of 64-bit words a sample, unit 64 w + k being kept, times `scale`, where bit k
 * of word w is set; or `values`, a row of numbers a sample, with zeros up to a multiple of 16; rows
 * are `stride` apart. Without both there is no noise. */
typedef struct {
    const uint64_t *bits;
    const float *values;
    int64_t stride;
    float scale;
} Mask;

static inline int has_noise(const Mask *mask) { return mask->bits || mask->values; }

/* The noise of units k … k + 7, k a multiple of 8. */
INLINE v8 noise_of(const Mask *mask, int64_t sample, int64_t k) {
    if (!mask->bits) return *(const v8 *)(mask->values + sample * mask->stride + k);
    const i8 lanes = {1, 2, 4, 8, 16, 32, 64, 128};
    const int32_t bits = ((const uint8_t *)(mask->bits + sample * mask->stride))[k / 8];
    return (v8)(((lanes & bits) != 0) & (i8)((v8){0} + mask->scale));
}

/* The same from unit k on, a multiple of 64. */
INLINE Mask from_unit(Mask mask, int64_t k) {
    if (mask.bits) mask.bits += k / 64;
    if (mask.values) mask.values += k;
    return mask;
}

/* The units that a mask drops, or those that it does not; returns how many. */
INLINE int64_t find(const int is_dropped, const Mask *mask, int64_t sample, int64_t size,
                    int32_t *found) {
    int64_t n = 0;
    if (!mask->bits) {
        const float *values = mask->values + sample * mask->stride;
        for (int64_t k = 0; k < size; k++) {
            found[n] = (int32_t)k;
            n += (values[k] == 0.0f) == is_dropped;
        }
        return n;
    }
    const uint64_t *words = mask->bits + sample * mask->stride;
    for (int64_t k = 0; k < size; k += 64) {
        uint64_t word = is_dropped ? ~words[k / 64] : words[k / 64];
        if (size - k < 64) word &= ((uint64_t)1 << (size - k)) - 1;
        for (; word; word &= word - 1) found[n++] = (int32_t)(k + __builtin_ctzll(word));
    }
    return n;
}

/* out (rows, padded n_out) = [ReLU](a @ weight + start) [· mask]; row r has the mask of the sample
 * `sample` + r / rows_per_sample, and starts from row r of `start`, rows of which are `lds` apart (0:
 * all from a bias). A panel has n_in rows. */
void layer(const float *a, int64_t lda, int64_t rows, Inputs inputs, int64_t n_in, int64_t n_out,
           const float *panels, const float *start, int64_t lds, int is_hidden, const Mask *mask,
           int64_t sample, int64_t rows_per_sample, float *out, int64_t ldo);

#endif
