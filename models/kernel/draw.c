/* Thinned networks on rows. */

#include "row.h"

#define KERNEL_VERSION 10

int kernel_version(void) { return KERNEL_VERSION; }

/* Rows of a block, of all its samples or, where what a mask drops is left out, of one: their
 * activations fit a cache. */
enum { BLOCK = 96, MOST_THINNED = 256 };
/* So many rows have to share a mask for that; to gather one weight takes as long as so many
 * multiply-adds. */
enum { LEAST_TO_THIN = 4, GATHER_COST = 40 };

/* `size` numbers, with zeros up to a multiple of 16. */
INLINE void fill(const float *from, int64_t size, float *to) {
    memcpy(to, from, size * sizeof(float));
    memset(to + size, 0, (padded(size) - size) * sizeof(float));
}

/* The raw outputs (n_out,) of a regression for the inputs of the last layer, filled up with zeros,
 * and their mask in that sample, and, if asked for, mean and variance of the first of them over the
 * noise that is left away then. */
INLINE void read_out(const Network *net, const float *hidden, const Mask *mask, int64_t sample,
                     const float *noise, float *raw, float *conditional) {
    const int64_t last = net->n_layers - 1, n_out = net->sizes[last + 1];
    const int64_t width = padded(net->sizes[last]);
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
    /* Means and log variances are as many: two sums at a time. */
    for (int64_t o = 0; o < n_out; o += 2) {
        const float *first = net->readout + o * width, *second = first + width;
        v8 sums[2] = {{0}, {0}};
        for (int64_t k = 0; k < width; k += 8) {
            v8 part = *(const v8 *)(hidden + k);
            if (mask) part *= noise_of(mask, sample, k);
            sums[0] += part * *(const v8 *)(first + k);
            sums[1] += part * *(const v8 *)(second + k);
        }
        raw[o] = bias[o] + add_up(sums[0]);
        raw[o + 1] = bias[o + 1] + add_up(sums[1]);
    }
    for (int64_t o = n_out / 2; o < n_out; o++) {
        if (raw[o] < net->least_log_variance) raw[o] = net->least_log_variance;
        if (raw[o] > net->most_log_variance) raw[o] = net->most_log_variance;
    }
}

/* What one call of `draw` works on. */
typedef struct {
    const Network *net;
    int64_t site, rows, begin, samples, ld; /* samples from `begin` on */
    const Mask *masks;
    const float *whole;        /* (rows, padded size) as in `draw`, or NULL */
    const float *negated;      /* then (rows, ld) what a dropped unit takes away */
    float *hidden, *next;      /* (samples, rows, ld) */
    float *gathered, *bias;    /* weights of kept units alone */
    int32_t *own, *others, *dropped;
} Block;

INLINE const Mask *mask_of(const Block *block, int64_t layer) {
    const Mask *mask = block->masks + layer;
    return has_noise(mask) ? mask : NULL;
}

INLINE void turn(Block *block) {
    float *free_again = block->hidden;
    block->hidden = block->next, block->next = free_again;
}

/* The mask that a layer puts on its outputs: not that which `read_out` sees to. */
INLINE const Mask *next_mask(const Block *block, int64_t layer) {
    const int64_t last = block->net->n_layers - 1;
    if (layer == last || (block->net->readout && layer + 1 == last)) return NULL;
    return mask_of(block, layer + 1);
}

/* The first layer of all samples: what reaches it is the same for all of them, so that what it says
 * of whole rows is known, and what is dropped is taken away, but for units at rest, which say nothing.
 * Weights that are read again and again stay in the cache: samples after columns. */
INLINE void pass_first(Block *block) {
    const Network *net = block->net;
    const int64_t i = block->site, n_in = net->sizes[i], n_out = net->sizes[i + 1];
    const int64_t ld = block->ld, ldw = padded(n_out), wide = n_out - n_out % (FEW * WIDTH);
    const int is_hidden = i < net->n_layers - 1;
    const Mask *mask = next_mask(block, i), rest = mask ? from_unit(*mask, wide) : (Mask){0};
    for (int64_t s = 0; s < block->samples; s++)
        for (int64_t r = 0; r < block->rows; r++) {
            const float *negated = block->negated + r * ld;
            int32_t *dropped = block->dropped + (s * block->rows + r) * (n_in + 1), n_active = 0;
            const int64_t n = find(1, mask_of(block, i), block->begin + s, n_in, dropped);
            for (int64_t k = 0; k < n; k++) {
                const int32_t unit = dropped[k];
                dropped[n_active] = unit;
                n_active += negated[unit] != 0.0f;
            }
            dropped[n_in] = n_active;
        }
    for (int64_t column = 0; column < n_out; column += column < wide ? FEW * WIDTH : n_out)
        for (int64_t s = 0; s < block->samples; s++) {
            const float *panel = net->panels[i] + column * n_in;
            for (int64_t r = 0; r < block->rows; r++) {
                const int32_t *dropped = block->dropped + (s * block->rows + r) * (n_in + 1);
                const float *negated = block->negated + r * ld;
                const float *start = block->whole + r * ldw + column;
                float *out = block->hidden + (s * block->rows + r) * ld + column;
                const Inputs inputs = {dropped[n_in], dropped, dropped};
                const int64_t sample = block->begin + s;
                if (column < wide)
                    one_row(1, negated, inputs, panel, n_in, start, is_hidden, mask, sample, column,
                            out);
                else
                    layer(negated, ld, 1, inputs, n_in, n_out - column, panel, start, 0, is_hidden,
                          mask ? &rest : NULL, sample, 1, out, ld);
            }
        }
}

/* All hidden layers of all samples, and the last one but of regressions: each layer at once. */
INLINE void pass_together(Block *block, int64_t end) {
    const Network *net = block->net;
    const int64_t last = net->n_layers - 1, all = block->rows * block->samples;
    int64_t i = block->site;
    if (block->whole) pass_first(block), i++;
    for (; i < end; i++) {
        const Inputs inputs = {net->sizes[i], NULL, NULL};
        layer(block->hidden, block->ld, all, inputs, net->sizes[i], net->sizes[i + 1],
              net->panels[i], net->biases[i], 0, i < last, next_mask(block, i), block->begin,
              block->rows, block->next, block->ld);
        turn(block);
    }
}

/* The weights of kept inputs and kept outputs, and the biases of these, in panels. */
INLINE void gather(const Block *block, int64_t i, const int32_t *own, int64_t n_own,
                   const int32_t *others, int64_t n_others) {
    const int64_t n_in = block->net->sizes[i];
    float *to = block->gathered;
    for (int64_t column = 0; column < n_others; column += WIDTH, to += n_own * WIDTH) {
        const float *from[WIDTH];
        for (int64_t c = 0; c < WIDTH; c++) {
            const int32_t j = others[column + c < n_others ? column + c : n_others - 1];
            from[c] = block->net->panels[i] + j / WIDTH * n_in * WIDTH + j % WIDTH;
            block->bias[column + c] = block->net->biases[i][j];
        }
        for (int64_t k = 0; k < n_own; k++) {
            const int64_t at = WIDTH * (own ? own[k] : k);
            for (int64_t c = 0; c < WIDTH; c++) to[WIDTH * k + c] = from[c][at];
        }
    }
}

/* The same for the rows of one sample, without what its masks drop. Where that pays outputs that the
 * next mask drops are not computed either: the rest stands side by side then. */
INLINE void pass_thinned(Block *block, int64_t sample, int64_t end) {
    const Network *net = block->net;
    const int64_t last = net->n_layers - 1, rows = block->rows, at = sample * rows * block->ld;
    int64_t n_own = net->sizes[block->site];
    int is_gathered = 0, thins = 0; /* rows without, weights with dropped inputs */
    const Mask *own = mask_of(block, block->site);
    sample += block->begin;
    if (own) n_own = find(block->whole != NULL, own, sample, n_own, block->own), thins = 1;
    float *hidden = block->hidden + at, *next = block->next + at;
    for (int64_t i = block->site; i < end; i++) {
        const int64_t n_in = net->sizes[i];
        int64_t n_out = net->sizes[i + 1], n_others = n_out;
        const Mask *mask = next_mask(block, i);
        if (mask) n_others = find(0, mask, sample, n_out, block->others);
        Inputs inputs = {n_own, thins && !is_gathered ? block->own : NULL, thins ? block->own : NULL};
        if (i == block->site && block->whole) {
            layer(block->negated, block->ld, rows, inputs, n_in, n_out, net->panels[i],
                  block->whole, padded(n_out), i < last, mask, sample, rows, next, block->ld);
        } else if (rows * (n_out - n_others) > GATHER_COST * n_others && n_others > 0) {
            gather(block, i, thins ? block->own : NULL, n_own, block->others, n_others);
            float *scales = block->bias + padded(n_others);
            memset(scales, 0, padded(n_others) * sizeof(float));
            for (int64_t j = 0; j < n_others; j++) {
                const int32_t k = block->others[j];
                scales[j] = mask->bits ? mask->scale : mask->values[sample * mask->stride + k];
            }
            const Mask kept = {.values = scales};
            inputs.of_weights = NULL;
            layer(hidden, block->ld, rows, inputs, n_own, n_others, block->gathered, block->bias, 0,
                  i < last, &kept, 0, rows, next, block->ld);
            is_gathered = 1;
        } else {
            layer(hidden, block->ld, rows, inputs, n_in, n_out, net->panels[i], net->biases[i], 0,
                  i < last, mask, sample, rows, next, block->ld);
            is_gathered = 0;
        }
        thins = mask != NULL, n_own = n_others;
        int32_t *read = block->own;
        block->own = block->others, block->others = read;
        float *free_again = hidden;
        hidden = next, next = free_again;
    }
}

/* The raw outputs (samples, rows, K) of thinned networks, from activations (rows, H) that reach the
 * layer `site`; `masks[i]` are those before layer i. Where the first of them drops few units,
 * `whole` is what `make_whole` gives for their `scale`, otherwise NULL.
 * `conditional` (samples, rows, 2), of regressions, may be NULL: as in `read_out`, by mean and
 * variance (`noise`) of the noise before the last layer. Returns 0, or -1 without memory. */
FAST int draw(const Network *net, int64_t site, const float *activations, const float *whole,
              float scale, int64_t n_rows, int64_t n_samples, const Mask *masks,
              const float *noise, float *raw, float *conditional) {
    const int64_t last = net->n_layers - 1, *sizes = net->sizes, n_out = sizes[last + 1];
    const int reads_out = net->readout != NULL, thins = n_rows >= LEAST_TO_THIN;
    const int64_t end = last + !reads_out;
    if (n_rows < 1 || n_samples < 1) return 0;
    if (site >= end || !has_noise(masks + site)) whole = NULL;
    int64_t widest = 0, largest = 0;
    for (int64_t i = site; i <= last + 1; i++) widest = sizes[i] > widest ? sizes[i] : widest;
    for (int64_t i = site; i < last; i++)
        if (has_noise(masks + i + 1) && sizes[i] * padded(sizes[i + 1]) > largest)
            largest = sizes[i] * padded(sizes[i + 1]);
    const int64_t ld = padded(widest), most = thins ? MOST_THINNED : BLOCK;
    const int64_t most_rows = n_rows < most ? n_rows : most;
    int64_t most_samples = BLOCK / most_rows > 1 ? BLOCK / most_rows : 1;
    if (most_samples > n_samples) most_samples = n_samples;
    const int64_t floats = most_rows * most_samples * ld, of_rows = whole ? most_rows * ld : 0;
    const int64_t lists = whole && !thins ? most_samples * most_rows * (sizes[site] + 1) : 0;
    float *memory =
        malloc((2 * floats + 3 * ld + (thins ? largest : 0) + of_rows) * sizeof(float));
    int32_t *places = malloc((2 * ld + lists) * sizeof(int32_t));
    if (!memory || !places) {
        free(memory), free(places);
        return -1;
    }
    float *bias = memory + 2 * floats;
    float *negated = bias + 3 * ld, *gathered = negated + of_rows;
    for (int64_t row = 0; row < n_rows; row += most_rows) {
        const int64_t rows = n_rows - row < most_rows ? n_rows - row : most_rows;
        const float *given = activations + row * sizes[site];
        for (int64_t r = 0; whole && r < rows; r++)
            for (int64_t k = 0; k < sizes[site]; k++)
                negated[r * ld + k] = -scale * given[r * sizes[site] + k];
        for (int64_t begin = 0; begin < n_samples; begin += most_samples) {
            const int64_t samples =
                n_samples - begin < most_samples ? n_samples - begin : most_samples;
            Block block = {.net = net, .site = site, .rows = rows, .begin = begin, .samples = samples,
                           .ld = ld, .masks = masks, .negated = negated, .hidden = memory,
                           .next = memory + floats, .gathered = gathered, .bias = bias,
                           .own = places, .others = places + ld, .dropped = places + 2 * ld};
            if (whole) block.whole = whole + row * padded(sizes[site + 1]);
            for (int64_t s = 0; s < samples && !whole; s++)
                for (int64_t r = 0; r < rows; r++) {
                    float *to = block.hidden + (s * rows + r) * ld;
                    const Mask *mask = reads_out && site == last ? NULL : mask_of(&block, site);
                    fill(given + r * sizes[site], sizes[site], to);
                    for (int64_t k = 0; mask && k < sizes[site]; k += 8)
                        *(v8 *)(to + k) *= noise_of(mask, begin + s, k);
                }
            if (thins) {
                for (int64_t s = 0; s < samples; s++) pass_thinned(&block, s, end);
                if ((end - site) % 2) turn(&block);
            } else {
                pass_together(&block, end);
            }
            for (int64_t s = 0; s < samples; s++) {
                for (int64_t r = 0; r < rows; r++) {
                    const float *hidden = block.hidden + (s * rows + r) * ld;
                    const int64_t at = (begin + s) * n_rows + row + r;
                    if (reads_out)
                        read_out(net, hidden, mask_of(&block, last), begin + s, noise, raw + at * n_out,
                                 conditional ? conditional + 2 * at : NULL);
                    else
                        memcpy(raw + at * n_out, hidden, n_out * sizeof(float));
                }
            }
        }
    }
    free(memory), free(places);
    return 0;
}
