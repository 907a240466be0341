/* The summary of few samples (`models/variance_reduction.py`). */

#include "mixture.h"
#include "rules.h"

/* The value, shrunk towards zero by as much of it as may well be noise. */
INLINE double doubted(double value, double squared_error, const Rules *rules) {
    const double square = value * value;
    const double kept = 1.0 - (square > 0.0 ? rules->doubt * squared_error / square : 1.0);
    return kept < 0.0 ? 0.0 : value * kept;
}

/* Of regressions: mean, epistemic std, aleatoric std, standard error of the mean and quantiles
 * (rows, 4 + Q), in units of the standardised target, from `raw` (samples, rows, K), `conditional`
 * (samples, rows, 2) and `linear` (samples, rows). `known` (rows) is the linear part's variance, or
 * NULL without the control variate; `propagated` (rows, K) is the analytic mean, which counts if
 * `is_gaussian`. Rows `first` … `end`, the last exclusive, are summarised. Returns 0, or -1 without memory. */
FAST int summarise(const float *raw, const float *conditional, const float *linear,
                   const double *known, const float *propagated, int64_t n_rows, int64_t first,
                   int64_t end, int64_t n_samples, int64_t n_out, int64_t is_gaussian,
                   const Rules *rules, const double *levels, const double *normal,
                   int64_t n_levels, double *out) {
    double *memory = malloc(3 * n_samples * sizeof(double));
    if (!memory) return -1;
    double *values = memory, *lines = memory + n_samples, *stds = lines + n_samples;
    const double n = (double)n_samples;
    const double effective = n - rules->allowance > n / 2 ? n - rules->allowance : n / 2;
    out += first * (4 + n_levels);
    for (int64_t row = first; row < end; row++, out += 4 + n_levels) {
        double mean_value = 0.0, mean_rest = 0.0, mean_spread = 0.0, mean_noise = 0.0;
        for (int64_t t = 0; t < n_samples; t++) {
            const int64_t at = t * n_rows + row;
            const double spread = conditional[2 * at + 1];
            const double noise = exp((double)raw[at * n_out + n_out / 2]);
            values[t] = conditional[2 * at];
            lines[t] = linear[at];
            stds[t] = sqrt(spread + noise);
            mean_value += values[t];
            mean_rest += values[t] - lines[t];
            mean_spread += spread;
            mean_noise += noise;
        }
        mean_value /= n, mean_rest /= n, mean_spread /= n, mean_noise /= n;
        double sampled = 0.0, of_rest = 0.0, covariance = 0.0, scatter = 0.0;
        for (int64_t t = 0; t < n_samples; t++) {
            const double off = values[t] - mean_value, rest = values[t] - lines[t] - mean_rest;
            sampled += off * off;
            of_rest += rest * rest;
            covariance += 2.0 * lines[t] * rest;
        }
        sampled /= n, of_rest /= n - 1.0, covariance /= n;
        const double drift = mean_value - mean_rest;
        double mean = mean_value, variance = sampled + of_rest / n + drift * drift;
        double squared = of_rest / effective + drift * drift;
        if (known) {
            if (is_gaussian) {
                for (int64_t t = 0; t < n_samples; t++) {
                    const double rest = values[t] - lines[t] - mean_rest;
                    const double off = 2.0 * lines[t] * rest - covariance;
                    scatter += off * off;
                }
                covariance = doubted(covariance, scatter / (n - 1.0) / n, rules);
            }
            if (of_rest < sampled) {
                mean = mean_rest;
                variance = known[row] + covariance + of_rest;
                if (variance < rules->least_variance * sampled)
                    variance = rules->least_variance * sampled;
                squared = of_rest / effective;
            }
        }
        const double rounding = rules->rounding * (fabs(mean) + sqrt(variance));
        double error = sqrt(squared + rounding * rounding);
        if (known && is_gaussian) {
            const double analytic = propagated[row * n_out], from = mean;
            mean = analytic + doubted(mean - analytic, error * error, rules);
            error = hypot(error, from - mean);
        }
        const double stretch = sampled > 0.0 ? sqrt(variance / sampled) : 1.0;
        for (int64_t t = 0; t < n_samples; t++)
            values[t] = mean + (values[t] - mean_value) * stretch;
        out[0] = mean;
        out[1] = sqrt(variance + mean_spread);
        out[2] = sqrt(mean_noise);
        out[3] = error;
        find_quantiles(values, stds, n_samples, levels, normal, n_levels, out + 4);
    }
    free(memory);
    return 0;
}

/* The same, but for the control variate, of independent samples: the textbook's moments. */
FAST int summarise_samples(const float *raw, int64_t n_rows, int64_t first, int64_t end,
                           int64_t n_samples, int64_t n_out, const double *levels,
                           const double *normal, int64_t n_levels, double *out) {
    double *memory = malloc(2 * n_samples * sizeof(double));
    if (!memory) return -1;
    double *values = memory, *stds = memory + n_samples;
    const double n = (double)n_samples;
    out += first * (4 + n_levels);
    for (int64_t row = first; row < end; row++, out += 4 + n_levels) {
        double mean = 0.0, noise = 0.0, squares = 0.0;
        for (int64_t t = 0; t < n_samples; t++) {
            const float *own = raw + (t * n_rows + row) * n_out;
            const double variance = exp((double)own[n_out / 2]);
            values[t] = own[0];
            stds[t] = sqrt(variance);
            mean += values[t];
            noise += variance;
        }
        mean /= n;
        for (int64_t t = 0; t < n_samples; t++) squares += (values[t] - mean) * (values[t] - mean);
        out[0] = mean;
        out[1] = sqrt(squares / (n - 1.0));
        out[2] = sqrt(noise / n);
        out[3] = out[1] / sqrt(n);
        find_quantiles(values, stds, n_samples, levels, normal, n_levels, out + 4);
    }
    free(memory);
    return 0;
}
