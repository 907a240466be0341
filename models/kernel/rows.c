/* Rows of numbers, straight from JSON. */

#include "network.h"

#include <float.h>

/* Text ends with a zero byte, which belongs to nothing that is looked for here. */

/* Powers of ten that a wide number holds exactly; digits that 64 bits hold. */
#if LDBL_MANT_DIG == 64
typedef long double Wide;
enum { MOST_POWER = 27 };
#else
typedef double Wide;
enum { MOST_POWER = 22 };
#endif
enum { MOST_DIGITS = 19 };
static const Wide POWERS[] = {
    1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,  1e10L, 1e11L, 1e12L, 1e13L,
    1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};

/* The double nearest to digits · 10^exponent; 0 if one rounding of a wide number does not tell. */
INLINE int scale(uint64_t digits, int64_t exponent, double *out) {
    if (exponent < -MOST_POWER || exponent > MOST_POWER) return 0;
    const Wide value = exponent < 0 ? digits / POWERS[-exponent] : digits * POWERS[exponent];
    *out = (double)value;
#if LDBL_MANT_DIG == 64
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7ff) != 0x400; /* half way between two doubles */
#else
    return digits >> DBL_MANT_DIG == 0;
#endif
}

/* The first of them in the lowest byte. */
INLINE uint64_t load_eight(const char *at) {
    uint64_t eight;
    memcpy(&eight, at, sizeof eight);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    eight = __builtin_bswap64(eight);
#endif
    return eight;
}

INLINE int are_digits(uint64_t eight) {
    const uint64_t high = 0xf0f0f0f0f0f0f0f0;
    return ((eight & high) | (((eight + 0x0606060606060606) & high) >> 4)) == 0x3333333333333333;
}

/* Pairs of digits, then pairs of these, then of those. */
INLINE uint64_t value_of(uint64_t eight) {
    eight = (eight & 0x0f0f0f0f0f0f0f0f) * (1 + (10 << 8)) >> 8;
    eight = (eight & 0x00ff00ff00ff00ff) * (1 + (100 << 16)) >> 16;
    return (eight & 0x0000ffff0000ffff) * (1 + (10000ull << 32)) >> 32;
}

enum { LONGEST_NUMBER = 300 };

INLINE const char *skip(const char *at) {
    while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t') at++;
    return at;
}

/* Behind that text, and what may stand around it; NULL if something else is there. */
INLINE const char *expect(const char *at, const char *due) {
    if (!at) return NULL;
    at = skip(at);
    const size_t length = strlen(due);
    return strncmp(at, due, length) ? NULL : skip(at + length);
}

/* Behind the digits, which go on with those of `value`. */
INLINE const char *read_digits(const char *at, const char *end, uint64_t *value) {
    while (end - at >= 8 && are_digits(load_eight(at))) {
        *value = *value * 100000000 + value_of(load_eight(at));
        at += 8;
    }
    for (; *at >= '0' && *at <= '9'; at++) *value = *value * 10 + (uint64_t)(*at - '0');
    return at;
}

/* Behind one number, as JSON has them; NULL if there is none, or none that is finite. */
INLINE const char *read_number(const char *at, const char *end, double *out) {
    const char *begin = at;
    const int is_negative = *at == '-';
    const char *first = at += is_negative;
    uint64_t digits = 0;
    at = read_digits(at, end, &digits);
    int64_t n_digits = at - first, exponent = 0;
    int is_whole = 1;
    if (n_digits == 0 || (*first == '0' && n_digits > 1)) return NULL;
    if (*at == '.') {
        const char *point = ++at;
        at = read_digits(at, end, &digits);
        if (at == point) return NULL;
        n_digits += at - point, exponent = point - at, is_whole = 0;
    }
    if (*at == 'e' || *at == 'E') {
        const int is_small = *++at == '-';
        at += is_small || *at == '+';
        const char *from = at;
        uint64_t power = 0;
        at = read_digits(at, end, &power);
        if (at == from || at - from > 4) return NULL;
        exponent += is_small ? -(int64_t)power : (int64_t)power, is_whole = 0;
    }
    if (n_digits > MOST_DIGITS) /* zeros in front do not count */
        for (; *first == '0' || *first == '.'; first++) n_digits -= *first == '0';
    if (n_digits <= MOST_DIGITS && scale(digits, exponent, out)) {
        /* A whole number has no negative zero. */
        static const double SIGNS[] = {1.0, -1.0};
        *out *= SIGNS[is_negative & !(is_whole & (digits == 0))];
        return at;
    }
    if (at - begin > LONGEST_NUMBER) return NULL;
    char *stopped;
    *out = strtod(begin, &stopped) + (is_whole ? 0.0 : -0.0); /* as above */
    return stopped == at && fabs(*out) <= DBL_MAX ? at : NULL;
}

/* The numbers of `{"instances": [[…], …]}`, row after row, of which all are `width` wide; there are no
 * more than half as many as bytes. Returns how many rows, 0 of a text that is anything else. */
int64_t read_rows(const char *text, int64_t size, double *out, int64_t *width) {
    const char *end = text + size;
    const char *at = expect(expect(expect(expect(text, "{"), "\"instances\""), ":"), "[");
    int64_t n_rows = 0;
    *width = 0;
    for (int goes_on = at != NULL; goes_on; n_rows++) {
        int64_t n = 0;
        at = expect(at, "[");
        for (int has_more = 1; has_more; n++) {
            at = at ? read_number(at, end, out++) : NULL;
            if (!at) return 0;
            at = skip(at);
            has_more = *at == ',';
            if (has_more) at = skip(at + 1);
        }
        at = expect(at, "]");
        if (!at || (n_rows && n != *width)) return 0;
        *width = n;
        goes_on = *at == ',';
        if (goes_on) at++;
    }
    at = expect(expect(at, "]"), "}");
    return at == end ? n_rows : 0;
}
