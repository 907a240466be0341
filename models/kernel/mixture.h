/* The quantiles of one mixture of Gaussians (`models/uncertainty.py`). */

#ifndef DROPCAST_MIXTURE_H
#define DROPCAST_MIXTURE_H

#include "network.h"

/* Quantiles (Q,) of an equal mixture of T Gaussians, from means and stds (T,), as
 * `models.uncertainty.mixture_quantiles` finds them; `normal` (Q,) are those of one Gaussian. */
INLINE void find_quantiles(const double *means, const double *stds, int64_t n_samples,
                           const double *levels, const double *normal, int64_t n_levels,
                           double *out) {
    const double per_sample = 1.0 / (double)n_samples;
    double centre = 0.0, spread = 0.0, narrowest = INFINITY;
    for (int64_t t = 0; t < n_samples; t++) centre += means[t];
    centre *= per_sample;
    for (int64_t t = 0; t < n_samples; t++) {
        const double off = means[t] - centre;
        spread += off * off + stds[t] * stds[t];
        narrowest = stds[t] < narrowest ? stds[t] : narrowest;
    }
    spread = sqrt(spread * per_sample);
    for (int64_t q = 0; q < n_levels; q++) {
        const double z = normal[q];
        double low = INFINITY, high = -INFINITY;
        for (int64_t t = 0; t < n_samples; t++) {
            const double part = means[t] + z * stds[t];
            low = part < low ? part : low;
            high = part > high ? part : high;
        }
        const double tolerance = 1e-10 * (high - low) + 1e-300;
        const double last_step = fmin(1e-6 * (high - low), 1e-5 * narrowest) + tolerance;
        double x = centre + z * spread;
        x = x < low ? low : x > high ? high : x;
        for (int step = 0; step < 100 && high - low > tolerance; step++) {
            double below = 0.0, density = 0.0;
            for (int64_t t = 0; t < n_samples; t++) {
                const double inverse = 1.0 / stds[t], u = (x - means[t]) * inverse;
                below += 0.5 * erfc(-M_SQRT1_2 * u);
                density += exp(-0.5 * u * u) * inverse;
            }
            const double excess = below * per_sample - levels[q];
            density *= per_sample * 0.3989422804014327;
            if (excess <= 0.0) low = x;
            if (excess >= 0.0) high = x;
            if (high - low <= tolerance) break;
            double moved = density > 0.0 ? x - excess / density : INFINITY;
            const int is_inside = moved > low && moved < high;
            if (!is_inside) moved = 0.5 * (low + high);
            const int is_last = fabs(moved - x) <= (is_inside ? last_step : tolerance);
            x = moved;
            if (is_last) break;
        }
        out[q] = x;
    }
}

#endif
