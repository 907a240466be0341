/* The linearisation in the noise (`models/linearisation.py`), row by row. */

#include "mask.h"

/* Means and variances (padded n_out) of a layer's outputs from those of its inputs. */
INLINE void propagate(const Network *net, int64_t i, const float *means, const float *variances,
                      float *mean, float *variance) {
    const int64_t n_in = net->sizes[i], n_out = net->sizes[i + 1];
    const float *panel = net->panels[i];
    for (int64_t column = 0; column < n_out; column += WIDTH, panel += n_in * WIDTH) {
        v8 m0 = *(const v8 *)(net->biases[i] + column), m1 = *(const v8 *)(net->biases[i] + column + 8);
        v8 s0 = {0}, s1 = {0};
        for (int64_t k = 0; k < n_in; k++) {
            const v8 b0 = *(const v8 *)(panel + WIDTH * k), b1 = *(const v8 *)(panel + WIDTH * k + 8);
            m0 += means[k] * b0, m1 += means[k] * b1;
            s0 += variances[k] * (b0 * b0), s1 += variances[k] * (b1 * b1);
        }
        *(v8 *)(mean + column) = m0, *(v8 *)(mean + column + 8) = m1;
        *(v8 *)(variance + column) = s0, *(v8 *)(variance + column + 8) = s1;
    }
}

/* back (n_in,) = weight @ slopes (padded n_out): how outputs follow a layer's inputs. */
INLINE void propagate_back(const Network *net, int64_t i, const float *slopes, v8 *sums,
                           float *back) {
    const int64_t n_in = net->sizes[i], n_out = net->sizes[i + 1];
    const float *panel = net->panels[i];
    memset(sums, 0, n_in * sizeof(v8));
    for (int64_t column = 0; column < n_out; column += WIDTH, panel += n_in * WIDTH) {
        const v8 a0 = *(const v8 *)(slopes + column), a1 = *(const v8 *)(slopes + column + 8);
        for (int64_t k = 0; k < n_in; k++)
            sums[k] += a0 * *(const v8 *)(panel + WIDTH * k) + a1 * *(const v8 *)(panel + WIDTH * k + 8);
    }
    for (int64_t k = 0; k < n_in; k++) back[k] = add_up(sums[k]);
}

/* The linearisation (`models/linearisation.py`) of the first O raw outputs of rows, from what
 * reaches the layer `site` on to the layer `end` (exclusive): `propagated` (rows, K),
 * `sensitivity` (rows, O, all units of the noisy layers among these, one after the other) and
 * `covariance` (rows, O, O). Returns 0, or -1 without memory. */
FAST int linearise(const Network *net, const float *noise_means, const float *noise_variances,
                   int64_t site, int64_t end, const float *activations, int64_t n_rows,
                   int64_t n_outputs, int64_t n_units, float *propagated, float *sensitivity,
                   double *covariance) {
    const int64_t last = net->n_layers - 1, *sizes = net->sizes, n_out = sizes[last + 1];
    int64_t widest = 0;
    for (int64_t i = site; i <= last + 1; i++) widest = sizes[i] > widest ? sizes[i] : widest;
    const int64_t ld = padded(widest);
    float *memory = calloc((2 * net->n_layers + 4 + 2 * n_outputs + 8) * ld, sizeof(float));
    if (!memory) return -1;
    float *means = memory, *gates = means + net->n_layers * ld;
    float *square = gates + net->n_layers * ld, *moved = square + ld, *spread = moved + ld;
    float *at = spread + ld, *slopes = at + ld, *back = slopes + n_outputs * ld;
    v8 *sums = (v8 *)(back + n_outputs * ld);
    for (int64_t row = 0; row < n_rows; row++) {
        float *mean = means + site * ld;
        memcpy(mean, activations + row * sizes[site], sizes[site] * sizeof(float));
        for (int64_t k = 0; k < sizes[site]; k++) square[k] = mean[k] * mean[k];
        for (int64_t i = site; i <= last; i++, mean += ld) {
            const float m = noise_means[i], v = noise_variances[i];
            for (int64_t k = 0; k < sizes[i]; k++) {
                moved[k] = m * mean[k];
                const float left = (v + m * m) * square[k] - moved[k] * moved[k];
                spread[k] = left < 0.0f ? 0.0f : left;
            }
            float *variance = square; /* read no more */
            propagate(net, i, moved, spread, at, variance);
            if (i == last) break;
            float *first = mean + ld, *gate = gates + i * ld;
            for (int64_t j = 0; j < sizes[i + 1]; j++) {
                const float std = sqrtf(variance[j] + 1e-6f * at[j] * at[j] + 1e-12f);
                const float z = at[j] / std;
                const float above = 0.5f * erfcf(-0.70710678f * z);
                const float density = 0.39894228f * expf(-0.5f * z * z);
                first[j] = at[j] * above + std * density;
                const float second = (at[j] * at[j] + std * std) * above + at[j] * std * density;
                const float least = first[j] * first[j];
                square[j] = second < least ? least : second;
                gate[j] = above;
            }
        }
        for (int64_t k = 0; k < n_out; k++) {
            float value = at[k];
            if (net->readout && k >= n_out / 2) {
                if (value < net->least_log_variance) value = net->least_log_variance;
                if (value > net->most_log_variance) value = net->most_log_variance;
            }
            propagated[row * n_out + k] = value;
        }
        double *own = covariance + row * n_outputs * n_outputs;
        for (int64_t o = 0; o < n_outputs * n_outputs; o++) own[o] = 0.0;
        int64_t offset = n_units;
        for (int64_t i = last; i >= site; i--) {
            const int is_noisy = noise_variances[i] > 0.0f && i < end;
            offset -= is_noisy ? sizes[i] : 0;
            for (int64_t o = 0; o < n_outputs; o++) {
                float *from = slopes + o * ld, *to = back + o * ld;
                if (i == last) {
                    const float *panel = net->panels[last] + o / WIDTH * sizes[last] * WIDTH;
                    for (int64_t k = 0; k < sizes[last]; k++) to[k] = panel[k * WIDTH + o % WIDTH];
                } else {
                    const float m = noise_means[i + 1], *gate = gates + i * ld;
                    memset(from, 0, padded(sizes[i + 1]) * sizeof(float));
                    for (int64_t j = 0; j < sizes[i + 1]; j++) from[j] = to[j] * (m * gate[j]);
                    propagate_back(net, i, from, sums, to);
                }
                if (!is_noisy) continue;
                float *line = sensitivity + (row * n_outputs + o) * n_units + offset;
                for (int64_t k = 0; k < sizes[i]; k++) line[k] = to[k] * means[i * ld + k];
            }
            if (!is_noisy) continue;
            for (int64_t o = 0; o < n_outputs; o++)
                for (int64_t p = 0; p <= o; p++) {
                    const float *a = sensitivity + (row * n_outputs + o) * n_units + offset;
                    const float *b = sensitivity + (row * n_outputs + p) * n_units + offset;
                    double sum = 0.0;
                    for (int64_t k = 0; k < sizes[i]; k++) sum += (double)a[k] * b[k];
                    own[o * n_outputs + p] += noise_variances[i] * sum;
                    own[p * n_outputs + o] = own[o * n_outputs + p];
                }
        }
    }
    free(memory);
    return 0;
}

/* Adds to `total` (samples, rows, O) what noise before one layer of `size` inputs moves:
 * Σ sensitivity · (noise - mean), with the sensitivity (rows, O, ·) of that layer's units, `stride`
 * apart. */
FAST void add_linear_part(const float *sensitivity, int64_t stride, int64_t n_lines,
                          const Mask *mask, int64_t size, int64_t n_samples, float mean,
                          float *total) {
    for (int64_t s = 0; s < n_samples; s++)
        for (int64_t line = 0; line < n_lines; line++) {
            const float *c = sensitivity + line * stride;
            v8 sums = {0};
            int64_t k = 0;
            for (; k + 8 <= size; k += 8) sums += *(const v8 *)(c + k) * (noise_of(mask, s, k) - mean);
            float sum = add_up(sums);
            if (k < size) {
                const v8 noise = noise_of(mask, s, k);
                for (int64_t i = k; i < size; i++) sum += c[i] * (noise[i - k] - mean);
            }
            total[s * n_lines + line] += sum;
        }
}
