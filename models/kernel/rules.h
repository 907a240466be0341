/* What decides about the moments of few samples (`models/variance_reduction.py`). */

#ifndef DROPCAST_RULES_H
#define DROPCAST_RULES_H

/* Its numbers, by the names that they have there. */
typedef struct {
    double allowance, doubt, least_variance, rounding;
} Rules;

#endif
