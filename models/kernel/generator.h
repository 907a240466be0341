/* PCG64DXSM, as NumPy has it (O'Neill 2014, with the output function DXSM and the short multiplier). */

#ifndef DROPCAST_GENERATOR_H
#define DROPCAST_GENERATOR_H

#include <stdint.h>

typedef struct {
    unsigned __int128 state, increment;
} Generator;

/* From 128-bit state and increment, high halves first. */
static inline Generator read_generator(const uint64_t *given) {
    const Generator generator = {(unsigned __int128)given[0] << 64 | given[1],
                                 (unsigned __int128)given[2] << 64 | given[3]};
    return generator;
}

static inline uint64_t next_word(Generator *generator) {
    const uint64_t multiplier = 0xda942042e4dd58b5ULL;
    const unsigned __int128 state = generator->state;
    uint64_t word = (uint64_t)(state >> 64);
    word ^= word >> 32;
    word *= multiplier;
    word ^= word >> 48;
    word *= (uint64_t)state | 1;
    generator->state = state * multiplier + generator->increment;
    return word;
}

#endif
