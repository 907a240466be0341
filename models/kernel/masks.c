/* Masks from random words (`models/masks.py`). */

#include "generator.h"
#include "mask.h"

/* A site's masks, `words` of 64 bits a sample: a bit is set where a random word reaches the
 * threshold. */
typedef struct {
    int64_t size, words;
    uint32_t threshold;
    uint64_t *out;
} Site;

/* The comparisons of 64 words as bits, eight bytes of which are made one by a product. */
INLINE uint64_t compare(const uint32_t *words, uint32_t threshold) {
    uint8_t reaches[64];
    uint64_t eight, bits = 0;
    for (int k = 0; k < 64; k++) reaches[k] = words[k] >= threshold;
    for (int k = 0; k < 64; k += 8) {
        memcpy(&eight, reaches + k, 8);
        bits |= (eight * 0x0102040810204080ULL >> 56) << k;
    }
    return bits;
}

/* Fills the masks of each site with the next words of the generator; a sample takes `width` words of
 * 32 bits, the low half of each 64 first. Returns 0, or -1 without memory. */
FAST int fill_masks(const uint64_t *given, int64_t n_samples, int64_t width, const Site *sites,
                    int64_t n_sites) {
    Generator generator = read_generator(given);
    uint32_t *words = calloc(width + 64, sizeof(uint32_t));
    if (!words) return -1;
    for (int64_t s = 0; s < n_samples; s++) {
        for (int64_t i = 0; i < width; i += 2) {
            const uint64_t word = next_word(&generator);
            memcpy(words + i, &word, sizeof(word));
        }
        const uint32_t *own = words;
        for (int64_t i = 0; i < n_sites; own += sites[i++].size) {
            uint64_t *out = sites[i].out + s * sites[i].words;
            const int64_t rest = sites[i].size % 64, whole = sites[i].size / 64;
            for (int64_t w = 0; w < whole; w++) out[w] = compare(own + 64 * w, sites[i].threshold);
            if (rest)
                out[whole] = compare(own + 64 * whole, sites[i].threshold) & (((uint64_t)1 << rest) - 1);
        }
    }
    free(words);
    return 0;
}
