/* A small regression, drawn and summarised in one call (`models/at_once.py`). */

#include "mask.h"
#include "rules.h"

int forward(const Network *, int64_t, const float *, int64_t, float *);
void make_whole(const Network *, int64_t, float, const float *, int64_t, float *, float *);
int draw(const Network *, int64_t, const float *, const float *, float, int64_t, int64_t,
         const Mask *, const float *, float *, float *);
int linearise(const Network *, const float *, const float *, int64_t, int64_t, const float *,
              int64_t, int64_t, int64_t, float *, float *, double *);
void add_linear_part(const float *, int64_t, int64_t, const Mask *, int64_t, int64_t, float,
                     float *);
int summarise(const float *, const float *, const float *, const double *, const float *, int64_t,
              int64_t, int64_t, int64_t, int64_t, int64_t, const Rules *, const double *,
              const double *, int64_t, double *);
int summarise_samples(const float *, int64_t, int64_t, int64_t, int64_t, int64_t, const double *,
                      const double *, int64_t, double *);

/* What is asked: samples from the layer `site` on, independent ones or, if `is_reduced`, stratified
 * ones beside the linearisation, which is a control variate if `is_controlled`; `scale` as in
 * `make_whole`, or 0; moments and masks of the noise before each layer. */
typedef struct {
    int64_t site, n_samples, is_reduced, is_controlled, is_gaussian;
    float scale;
    const float *means, *variances;
    const Mask *masks;
    Rules rules;
    int64_t n_levels;
    const double *levels, *normal;
} Question;

/* The summary (rows, 4 + Q), as in `moments.c`, of inputs (rows, D), and their raw outputs (rows, K)
 * without noise. Returns 0, or -1 without memory. */
FAST int answer(const Network *net, const Question *asked, const float *x, int64_t n_rows,
                double *out, float *plain) {
    const int64_t last = net->n_layers - 1, n_out = net->sizes[last + 1], site = asked->site;
    const int64_t n = asked->n_samples, drawn = n * n_rows;
    int64_t n_units = 0;
    for (int64_t i = site; i < last; i++) n_units += asked->variances[i] > 0.0f ? net->sizes[i] : 0;
    const int64_t reached = site ? n_rows * net->sizes[site] : 0;
    /* One product serves all samples, and eval mode beside. */
    const int shares = asked->scale > 0.0f && site < last;
    const int64_t said = shares ? n_rows * padded(net->sizes[site + 1]) : 0;
    const int64_t beside = asked->is_reduced ? 3 * drawn + n_rows * (n_units + n_out) : 0;
    float *memory = malloc((reached + 2 * said + drawn * n_out + beside) * sizeof(float));
    double *known = malloc(n_rows * sizeof(double));
    Mask *none = calloc(net->n_layers, sizeof(Mask));
    int code = memory && known && none ? 0 : -1;
    float *activations = memory, *whole = memory + reached, *next = whole + said;
    float *raw = next + said;
    float *conditional = raw + drawn * n_out;
    float *linear = conditional + 2 * drawn, *propagated = linear + drawn;
    float *sensitivity = propagated + n_rows * n_out;
    const float noise[2] = {asked->means[last], asked->variances[last]};
    if (!code && site) code = forward(net, site, x, n_rows, activations);
    const float *inputs = site ? activations : x;
    if (!code && shares) make_whole(net, site, asked->scale, inputs, n_rows, whole, next);
    if (!code)
        code = draw(net, site + shares, shares ? next : inputs, NULL, 0.0f, n_rows, 1, none, NULL,
                    plain, NULL);
    if (!code)
        code = draw(net, site, inputs, shares ? whole : NULL, asked->scale, n_rows, n, asked->masks,
                    noise, raw, asked->is_reduced ? conditional : NULL);
    if (!code && !asked->is_reduced)
        code = summarise_samples(raw, n_rows, 0, n_rows, n, n_out, asked->levels, asked->normal,
                                 asked->n_levels, out);
    if (!code && asked->is_reduced) {
        code = linearise(net, asked->means, asked->variances, site, last, inputs, n_rows, 1,
                         n_units, propagated, sensitivity, known);
        memset(linear, 0, drawn * sizeof(float));
        int64_t offset = 0;
        for (int64_t i = site; i < last && !code; i++) {
            if (asked->variances[i] <= 0.0f) continue;
            add_linear_part(sensitivity + offset, n_units, n_rows, asked->masks + i, net->sizes[i],
                            n, asked->means[i], linear);
            offset += net->sizes[i];
        }
        if (!code)
            code = summarise(raw, conditional, linear, asked->is_controlled ? known : NULL,
                             propagated, n_rows, 0, n_rows, n, n_out, asked->is_gaussian,
                             &asked->rules, asked->levels, asked->normal, asked->n_levels, out);
    }
    free(memory), free(known), free(none);
    return code;
}
