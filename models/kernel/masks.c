/* Masks from random words (`models/masks.py`). */

#include "network.h"

/* A site's mask values: `scale` where a word reaches the threshold, otherwise 0. */
typedef struct {
    int64_t size;
    uint32_t threshold;
    float scale;
    float *out;
} Site;

/* Fills the masks (samples, size) of each site with the next words of PCG64DXSM, whose 128-bit state
 * and increment are given, high halves first; a sample takes `width` words of 32 bits, the low
 * half of each 64 first. Returns 0, or -1 without memory.
 * Source: O'Neill 2014, with the output function DXSM and the short multiplier. */
FAST int fill_masks(const uint64_t *given, int64_t n_samples, int64_t width, const Site *sites,
                    int64_t n_sites) {
    const uint64_t multiplier = 0xda942042e4dd58b5ULL;
    unsigned __int128 state = (unsigned __int128)given[0] << 64 | given[1];
    const unsigned __int128 increment = (unsigned __int128)given[2] << 64 | given[3];
    uint32_t *words = malloc((width + 1) * sizeof(uint32_t));
    if (!words) return -1;
    for (int64_t s = 0; s < n_samples; s++) {
        for (int64_t i = 0; i < width; i += 2) {
            uint64_t word = (uint64_t)(state >> 64);
            word ^= word >> 32;
            word *= multiplier;
            word ^= word >> 48;
            word *= (uint64_t)state | 1;
            state = state * multiplier + increment;
            words[i] = (uint32_t)word;
            words[i + 1] = (uint32_t)(word >> 32);
        }
        const uint32_t *own = words;
        for (int64_t i = 0; i < n_sites; own += sites[i++].size) {
            float *out = sites[i].out + s * sites[i].size;
            const uint32_t threshold = sites[i].threshold;
            const float scale = sites[i].scale;
            for (int64_t k = 0; k < sites[i].size; k++) out[k] = own[k] >= threshold ? scale : 0.0f;
        }
    }
    free(words);
    return 0;
}
