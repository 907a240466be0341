/* What a step of training does with each number, beside its matrix products (`models/training_run.py`,
 * `models/training_masks.py`, `models/written_gradient.py`): one pass over memory each. */

#include "generator.h"
#include "network.h"

/* Values (n,), in place: times `scale` where a word of 16 bits reaches the threshold, otherwise times
 * 0; words are those of the next ceil(n / 4) of 64 bits, the lowest first. */
FAST void drop_values(const uint64_t *given, int64_t n, uint32_t threshold, float scale,
                      float *values) {
    enum { AT_ONCE = 512 };
    Generator generator = read_generator(given);
    uint16_t parts[4 * AT_ONCE];
    for (int64_t begin = 0; begin < n; begin += 4 * AT_ONCE, values += 4 * AT_ONCE) {
        const int64_t count = n - begin < 4 * AT_ONCE ? n - begin : 4 * AT_ONCE;
        for (int64_t i = 0; i < count; i += 4) {
            const uint64_t word = next_word(&generator);
            for (int k = 0; k < 4; k++) parts[i + k] = (uint16_t)(word >> 16 * k);
        }
        for (int64_t i = 0; i < count; i++) values[i] *= parts[i] >= threshold ? scale : 0.0f;
    }
}

/* Of regressions: the mean squared error of raw outputs (n, K), and the gradient (n, K) of it and of
 * half the likelihood of the noise, whose log variance is the output `at`, within bounds. */
FAST double squared_error(const float *raw, const float *truth, int64_t n, int64_t n_out,
                          int64_t at, float least, float most, float *gradient) {
    double total = 0.0;
    memset(gradient, 0, n * n_out * sizeof(float));
    for (int64_t r = 0; r < n; r++, raw += n_out, gradient += n_out) {
        const float error = raw[0] - truth[r], squared = error * error, given = raw[at];
        const float bounded = given < least ? least : given > most ? most : given;
        total += squared;
        gradient[0] = error * (2.0f / n);
        /* Not a number is none of the bounds. */
        gradient[at] = given == bounded ? (1.0f - expf(-bounded) * squared) * (0.5f / n) : 0.0f;
    }
    return total / n;
}

typedef struct {
    double learning_rate, weight_decay, beta1, beta2, epsilon;
    double longest;   /* length to which the whole gradient is shortened; 0: none */
    double averaging; /* step of the running mean; 0: none */
    int64_t n_decayed, number;
} Step;

/* One step of AdamW (Loshchilov & Hutter 2019, algorithm 2) for values (n,), along their gradients,
 * with the moments of these, and of the values' running mean. */
FAST void descend(float *values, const float *gradients, float *means, float *squares,
                  float *average, int64_t n, const Step *step) {
    float factor = 1.0f;
    if (step->longest > 0.0) {
        double length = 0.0;
        for (int64_t begin = 0; begin < n; begin += 4096) {
            const int64_t end = n - begin < 4096 ? n : begin + 4096;
            v8 sums[4] = {{0}, {0}, {0}, {0}};
            int64_t i = begin;
            for (; i + 32 <= end; i += 32)
                for (int k = 0; k < 4; k++) {
                    const v8 part = *(const v8 *)(gradients + i + 8 * k);
                    sums[k] += part * part;
                }
            for (; i < end; i++) length += (double)gradients[i] * gradients[i];
            length += add_up((sums[0] + sums[1]) + (sums[2] + sums[3]));
        }
        const double shorter = step->longest / (sqrt(length) + 1e-6);
        if (shorter < 1.0) factor = (float)shorter;
    }
    const double number = (double)step->number;
    const float beta1 = (float)step->beta1, beta2 = (float)step->beta2;
    const float new1 = (float)(1.0 - step->beta1), new2 = (float)(1.0 - step->beta2);
    const float rate = (float)(step->learning_rate / (1.0 - pow(step->beta1, number)));
    const float root = (float)(1.0 / sqrt(1.0 - pow(step->beta2, number)));
    const float epsilon = (float)step->epsilon, averaging = (float)step->averaging;
    const float decay = (float)(1.0 - step->learning_rate * step->weight_decay);
    for (int part = 0; part < 2; part++) {
        const int64_t first = part ? step->n_decayed : 0, end = part ? n : step->n_decayed;
        const float kept = part ? 1.0f : decay;
        for (int64_t i = first; i < end; i++) {
            const float gradient = factor * gradients[i];
            const float mean = beta1 * means[i] + new1 * gradient;
            const float square = beta2 * squares[i] + new2 * gradient * gradient;
            const float value = kept * values[i] - rate * mean / (sqrtf(square) * root + epsilon);
            means[i] = mean, squares[i] = square, values[i] = value;
            average[i] += averaging * (value - average[i]);
        }
    }
}
