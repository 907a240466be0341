/* Thinned networks on rows, and passes without noise. */

#include "network.h"

#define KERNEL_VERSION 3

int kernel_version(void) { return KERNEL_VERSION; }

/* The inputs that a mask does not drop; returns how many. */
INLINE int64_t find_kept(const float *mask, int64_t size, int32_t *kept) {
    int64_t n = 0;
    for (int64_t k = 0; k < size; k++) {
        kept[n] = (int32_t)k;
        n += mask[k] != 0.0f;
    }
    return n;
}

/* `size` numbers, with zeros up to a multiple of 16. */
INLINE void fill(const float *from, int64_t size, float *to) {
    memcpy(to, from, size * sizeof(float));
    memset(to + size, 0, (padded(size) - size) * sizeof(float));
}

INLINE float dot(const float *a, const float *b, int64_t size) {
    v8 sum = {0};
    for (int64_t k = 0; k < size; k += 8) sum += *(const v8 *)(a + k) * *(const v8 *)(b + k);
    return add_up(sum);
}

/* The raw outputs (n_out,) of a regression for the inputs of the last layer (padded), and, if asked
 * for, mean and variance of the first of them over the noise that is left away then. */
INLINE void read_out(const Network *net, const float *hidden, const float *mask,
                     const float *noise, float *masked, float *raw, float *conditional) {
    const int64_t last = net->n_layers - 1, size = net->sizes[last], n_out = net->sizes[last + 1];
    const int64_t width = padded(size);
    const float *bias = net->biases[last];
    if (conditional) {
        v8 centre = {0}, spread = {0};
        for (int64_t k = 0; k < width; k += 8) {
            const v8 part = *(const v8 *)(hidden + k) * *(const v8 *)(net->readout + k);
            centre += part;
            spread += part * part;
        }
        conditional[0] = bias[0] + noise[0] * add_up(centre);
        conditional[1] = noise[1] * add_up(spread);
    }
    if (mask) {
        fill(mask, size, masked);
        for (int64_t k = 0; k < width; k += 8) *(v8 *)(masked + k) *= *(const v8 *)(hidden + k);
        hidden = masked;
    }
    for (int64_t o = 0; o < n_out; o++) raw[o] = bias[o] + dot(hidden, net->readout + o * width, width);
    for (int64_t o = n_out / 2; o < n_out; o++) {
        if (raw[o] < net->least_log_variance) raw[o] = net->least_log_variance;
        if (raw[o] > net->most_log_variance) raw[o] = net->most_log_variance;
    }
}

/* The raw outputs (samples, rows, K) of thinned networks, from activations (rows, H) that reach the
 * layer `site`; `masks[i]` (samples, size) are those before layer i, or NULL. `conditional`
 * (samples, rows, 2), of regressions, may be NULL: as in `read_out`, by mean and variance (`noise`)
 * of the noise before the last layer. Returns 0, or -1 without
 * memory. */
FAST int draw(const Network *net, int64_t site, const float *activations, int64_t n_rows,
              int64_t n_samples, const float *const *masks, const float *noise, float *raw,
              float *conditional) {
    const int64_t last = net->n_layers - 1, *sizes = net->sizes, n_out = sizes[last + 1];
    int64_t widest = 0;
    for (int64_t i = site; i <= last + 1; i++) widest = sizes[i] > widest ? sizes[i] : widest;
    const int64_t ld = padded(widest);
    const int64_t most_rows = n_rows < BLOCK ? n_rows : BLOCK;
    const int64_t most_samples = BLOCK / most_rows < n_samples ? BLOCK / most_rows : n_samples;
    float *memory = malloc((2 * most_rows * most_samples + 1) * ld * sizeof(float));
    int32_t *kept = malloc(ld * sizeof(int32_t));
    if (!memory || !kept) {
        free(memory), free(kept);
        return -1;
    }
    float *masked = memory + 2 * most_rows * most_samples * ld;
    for (int64_t row = 0; row < n_rows; row += most_rows) {
        const int64_t rows = n_rows - row < most_rows ? n_rows - row : most_rows;
        for (int64_t begin = 0; begin < n_samples; begin += most_samples) {
            const int64_t samples =
                n_samples - begin < most_samples ? n_samples - begin : most_samples;
            const int64_t all = rows * samples;
            float *hidden = memory, *next = memory + most_rows * most_samples * ld;
            const int reads_out = net->readout != NULL;
            for (int64_t i = 0; i < all; i++) {
                const float *from = activations + (row + i % rows) * sizes[site];
                float *to = hidden + i * ld;
                fill(from, sizes[site], to);
                if (masks[site] && !(reads_out && site == last)) {
                    const float *mask = masks[site] + (begin + i / rows) * sizes[site];
                    for (int64_t k = 0; k < sizes[site]; k++) to[k] *= mask[k];
                }
            }
            for (int64_t i = site; i < last + !reads_out; i++) {
                const float *own = masks[i] ? masks[i] + begin * sizes[i] : NULL;
                const float *mask = i < last ? masks[i + 1] : NULL;
                if (reads_out && i + 1 == last) mask = NULL;
                if (mask) mask += begin * sizes[i + 1];
                const int thins = own && rows >= LEAST_TO_THIN;
                const int64_t step = thins ? rows : all;
                for (int64_t at = 0; at < all; at += step) {
                    const int64_t sample = at / rows;
                    int64_t n_kept = sizes[i];
                    if (thins) n_kept = find_kept(own + sample * sizes[i], sizes[i], kept);
                    layer(hidden + at * ld, ld, step, n_kept < sizes[i] ? kept : NULL, n_kept,
                          sizes[i], sizes[i + 1], net->panels[i], net->biases[i], i < last,
                          mask ? mask + sample * sizes[i + 1] : NULL, rows, next + at * ld, ld);
                }
                float *free_again = hidden;
                hidden = next, next = free_again;
            }
            for (int64_t i = 0; i < all; i++) {
                const int64_t at = (begin + i / rows) * n_rows + row + i % rows;
                if (!reads_out) {
                    memcpy(raw + at * n_out, hidden + i * ld, n_out * sizeof(float));
                    continue;
                }
                const float *mask =
                    masks[last] ? masks[last] + (begin + i / rows) * sizes[last] : NULL;
                read_out(net, hidden + i * ld, mask, noise, masked, raw + at * n_out,
                         conditional ? conditional + 2 * at : NULL);
            }
        }
    }
    free(memory), free(kept);
    return 0;
}

/* What reaches the layer `n_layers` without noise, (rows, H), from inputs (rows, D). */
FAST int forward(const Network *net, int64_t n_layers, const float *x, int64_t n_rows, float *out) {
    int64_t widest = 0;
    for (int64_t i = 0; i <= n_layers; i++)
        widest = net->sizes[i] > widest ? net->sizes[i] : widest;
    const int64_t ld = padded(widest), n_in = net->sizes[0], n_out = net->sizes[n_layers];
    float *memory = malloc(2 * TILE * ld * sizeof(float));
    if (!memory) return -1;
    for (int64_t row = 0; row < n_rows; row += TILE) {
        const int64_t rows = n_rows - row < TILE ? n_rows - row : TILE;
        float *hidden = memory, *next = memory + TILE * ld;
        for (int64_t r = 0; r < rows; r++)
            memcpy(hidden + r * ld, x + (row + r) * n_in, n_in * sizeof(float));
        for (int64_t i = 0; i < n_layers; i++) {
            layer(hidden, ld, rows, NULL, net->sizes[i], net->sizes[i], net->sizes[i + 1],
                  net->panels[i], net->biases[i], i < net->n_layers - 1, NULL, 1, next, ld);
            float *free_again = hidden;
            hidden = next, next = free_again;
        }
        for (int64_t r = 0; r < rows; r++)
            memcpy(out + (row + r) * n_out, hidden + r * ld, n_out * sizeof(float));
    }
    free(memory);
    return 0;
}
