/* Layers without noise. */

#include "mask.h"

/* What the layer `site` says, (rows, padded size), of activations (rows, H) none of which is dropped,
 * if kept units are multiplied by `scale`; and, if asked for, what reaches the next layer without
 * noise, (rows, size), of a hidden one. */
FAST void make_whole(const Network *net, int64_t site, float scale, const float *activations,
                     int64_t n_rows, float *whole, float *hidden) {
    const int64_t n_in = net->sizes[site], n_out = net->sizes[site + 1], ldw = padded(n_out);
    const float *bias = net->biases[site];
    const Inputs inputs = {n_in, NULL, NULL};
    layer(activations, n_in, n_rows, inputs, n_in, n_out, net->panels[site], bias, 0, 0, NULL, 0, 1,
          whole, ldw);
    for (int64_t r = 0; r < n_rows; r++, whole += ldw) {
        for (int64_t k = 0; hidden && k < n_out; k++)
            hidden[r * n_out + k] = whole[k] < 0.0f ? 0.0f : whole[k];
        for (int64_t k = 0; k < n_out; k++) whole[k] = bias[k] + scale * (whole[k] - bias[k]);
    }
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
            const Inputs inputs = {net->sizes[i], NULL, NULL};
            layer(hidden, ld, rows, inputs, net->sizes[i], net->sizes[i + 1],
                  net->panels[i], net->biases[i], 0, i < net->n_layers - 1, NULL, 0, 1, next, ld);
            float *free_again = hidden;
            hidden = next, next = free_again;
        }
        for (int64_t r = 0; r < rows; r++)
            memcpy(out + (row + r) * n_out, hidden + r * ld, n_out * sizeof(float));
    }
    free(memory);
    return 0;
}
