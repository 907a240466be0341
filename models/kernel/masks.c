/* Masks from random words (`models/masks.py`). */

#include "generator.h"
#include "network.h"

/* A site's mask values: `scale` where a word reaches the threshold, otherwise 0. */
typedef struct {
    int64_t size;
    uint32_t threshold;
    float scale;
    float *out;
} Site;

/* Fills the masks (samples, size) of each site with the next words of the generator; a sample takes
 * `width` words of 32 bits, the low half of each 64 first. Returns 0, or -1 without memory. */
FAST int fill_masks(const uint64_t *given, int64_t n_samples, int64_t width, const Site *sites,
                    int64_t n_sites) {
    Generator generator = read_generator(given);
    uint32_t *words = malloc((width + 1) * sizeof(uint32_t));
    if (!words) return -1;
    for (int64_t s = 0; s < n_samples; s++) {
        for (int64_t i = 0; i < width; i += 2) {
            const uint64_t word = next_word(&generator);
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
