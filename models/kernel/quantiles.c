/* Quantiles of mixtures of Gaussians. */

#include "mixture.h"

/* Quantiles (rows, Q) of equal mixtures, from means and stds (rows, T). */
FAST void mixture_quantiles(const double *means, const double *stds, int64_t n_rows,
                            int64_t n_samples, const double *levels, const double *normal,
                            int64_t n_levels, double *out) {
    for (int64_t row = 0; row < n_rows; row++)
        find_quantiles(means + row * n_samples, stds + row * n_samples, n_samples, levels, normal,
                       n_levels, out + row * n_levels);
}
