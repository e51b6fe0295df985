// What one more token costs a model in bfloat16: products of a few rows with its weights, and attention to its cache.
//
// Compiled on the user's machine by native.py. All sums are fp32. An output is summed by one thread in one order: the
// number of threads changes no bit.
//
// Weights and cache are read in pairs of 32 bits, whose lower half is the even number and whose upper half the odd one:
// each becomes a float by one instruction. What they are multiplied with is parted alike: evens first, PAIRS of them.
// Where an instruction multiplies pairs and adds both, which is twice as fast, x of a product is rounded to bfloat16.
//
// Speed hangs on what stays in registers: 16 sums, and what is multiplied with them, where there are 32 registers of 512
// bits; half of both else.

#include <omp.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr int PAIRS = 16, WIDE = 4;  // of four rows, so many outputs at once
#else
constexpr int PAIRS = 8, WIDE = 2;
#endif
constexpr int SPAN = 2 * PAIRS;
using Floats = float __attribute__((vector_size(4 * PAIRS)));
using Words = uint32_t __attribute__((vector_size(4 * PAIRS)));

inline Floats floats(const float* place) {
    Floats value;
    std::memcpy(&value, place, sizeof value);
    return value;
}

inline Words pairs(const uint16_t* place) {
    Words value;
    std::memcpy(&value, place, sizeof value);
    return value;
}

inline Floats evens(const Words& pairs) { return (Floats)(pairs << 16); }
inline Floats odds(const Words& pairs) { return (Floats)(pairs & 0xffff0000u); }

inline float number(uint16_t half) {  // a bfloat16 is the upper half of a float
    const uint32_t bits = uint32_t(half) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// The numbers BY places on come first. Shuffles keep sums in registers: parts that are read by their address do not.
template <int BY, int... AT>
inline Floats turned(const Floats& values, std::integer_sequence<int, AT...>) {
#ifdef __clang__
    return __builtin_shufflevector(values, values, (AT + BY)...);
#else
    return __builtin_shuffle(values, values, Words{uint32_t(AT + BY)...});
#endif
}

template <int HALF = PAIRS / 2>
inline float total(const Floats& values) {
    if constexpr (HALF == 1) return values[0] + values[1];
    else return total<HALF / 2>(values + turned<HALF>(values, std::make_integer_sequence<int, PAIRS>()));
}

// Held in a register: else the compiler reads it from memory again for each output.
[[maybe_unused]] inline Floats held(Floats values) {
#ifdef __AVX512F__
    asm("" : "+v"(values));
#endif
    return values;
}

// `count` numbers, a multiple of SPAN, parted.
inline void part(const float* from, float* to, long count) {
    for (long i = 0; i < count; i += SPAN)
        for (int pair = 0; pair < PAIRS; pair++) {
            to[i + pair] = from[i + 2 * pair];
            to[i + PAIRS + pair] = from[i + 2 * pair + 1];
        }
}

// SPAN numbers of a weight and of x, which lies `ready` for it, and their products, added to PAIRS sums.
#ifdef __AVX512BF16__
using Ready = uint16_t;

using Weights = __m512bh;
using Given = __m512bh;

inline Weights weights_at(const uint16_t* place) {
    Weights value;
    std::memcpy(&value, place, sizeof value);
    return value;
}

inline Given given_at(const Ready* place) { return weights_at(place); }

inline void make_ready(const float* from, Ready* to, long count) {
    for (long i = 0; i < count; i += PAIRS) {
        const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
        std::memcpy(to + i, &rounded, sizeof rounded);
    }
}

inline Floats added(Floats sums, Weights weights, Given x) {
    return (Floats)_mm512_dpbf16_ps((__m512)sums, weights, x);
}
#else
using Ready = float;

struct Weights {
    Floats even, odd;
};
using Given = Weights;

inline Weights weights_at(const uint16_t* place) {
    const Words both = pairs(place);
    return {evens(both), odds(both)};
}

inline Given given_at(const Ready* place) { return {held(floats(place)), held(floats(place + PAIRS))}; }

inline void make_ready(const float* from, Ready* to, long count) { part(from, to, count); }

inline Floats added(Floats sums, const Weights& weights, const Given& x) {
    return sums + weights.even * x.even + weights.odd * x.odd;
}
#endif

struct Product {
    const uint16_t* weight;  // [outs, ins]
    const float* bias;       // [outs], or null
    float* y;                // [rows, outs], whose rows lie `stride` apart
    long outs, ins, stride;
};

struct Attention {
    const uint16_t *keys, *values;  // [batch, kv_heads, count, width], rows and heads apart by these steps
    long batch, heads, kv_heads, count, width, row_step, head_step, step;
    float scale, cap;  // cap: 0 for none
};

struct Input {
    const float* x;      // [rows, ins]
    const Ready* ready;  // of it [rows, whole], where whole is a multiple of SPAN
    long rows, whole;
};

// OUTS outputs of ROWS rows at once: a weight is read once for all rows, and x once for all outputs.
template <int ROWS, int OUTS>
inline void tile(const Product& to, const Input& of, long row, long out) {
    const uint16_t* weight = to.weight + out * to.ins;
    const float* x = of.x + row * to.ins;
    Floats sums[ROWS][OUTS] = {};
    for (long i = 0; i < of.whole; i += SPAN) {
        Weights read[OUTS];
#pragma GCC unroll 8
        for (int o = 0; o < OUTS; o++) {
            read[o] = weights_at(weight + o * to.ins + i);
            __builtin_prefetch(weight + (OUTS + o) * to.ins + i);  // the next outputs' weights come meanwhile
        }
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const Given given = given_at(of.ready + (row + r) * of.whole + i);
#pragma GCC unroll 8
            for (int o = 0; o < OUTS; o++) sums[r][o] = added(sums[r][o], read[o], given);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
        for (int o = 0; o < OUTS; o++) {
            float sum = total(sums[r][o]);
            for (long i = of.whole; i < to.ins; i++) sum += number(weight[o * to.ins + i]) * x[r * to.ins + i];
            to.y[(row + r) * to.stride + out + o] = to.bias ? sum + to.bias[out + o] : sum;
        }
}

template <int OUTS>
inline void rows_of(const Product& to, const Input& of, long out) {
    long row = 0;
    if constexpr (OUTS <= WIDE)
        for (; row + 4 <= of.rows; row += 4) tile<4, OUTS>(to, of, row, out);
    for (; row + 2 <= of.rows; row += 2) tile<2, OUTS>(to, of, row, out);
    for (; row < of.rows; row++) tile<1, OUTS>(to, of, row, out);
}

template <int OUTS>
inline void outputs(const Product& to, const Input& of, long first, long last) {
    long out = first;
    for (; out + OUTS <= last; out += OUTS) rows_of<OUTS>(to, of, out);
    for (; out < last; out++) rows_of<1>(to, of, out);
}

// Cephes' expf for x <= 0: e^x = 2^n e^r, with r within half of ln 2; 2e-7 of what it is, and 0 from e^-87 on.
inline Floats exponential(Floats x) {
    const Floats zero = {};
    const Floats low = zero - 87.0f;
    x = x < low ? low : x;
    const Floats shifted = x * 1.44269504f + 12582912.0f;  // rounds to a whole number, in the last bits
    const Floats n = shifted - 12582912.0f;
    const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = zero + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (Floats)((Words)p + ((Words)shifted << 23));
}

// The softmax of scores goes in their place, not yet divided; returns what to divide by. `room`: a multiple of PAIRS.
inline float softmax(float* scores, long count, long room) {
    const float most = *std::max_element(scores, scores + count);
    std::fill(scores + count, scores + room, -INFINITY);
    Floats sum = {};
    for (long s = 0; s < room; s += PAIRS) {
        Floats e = exponential(floats(scores + s) - most);
        std::memcpy(scores + s, &e, sizeof e);
        sum += e;
    }
    std::fill(scores + count, scores + room, 0.0f);
    return total(sum);
}

inline float dot(const float* query, const float* parted, const uint16_t* key, long width) {
    Floats sums = {};
    long n = 0;
    for (; n + SPAN <= width; n += SPAN) {
        const Words both = pairs(key + n);
        sums += floats(parted + n) * evens(both);
        sums += floats(parted + n + PAIRS) * odds(both);
    }
    float sum = total(sums);
    for (; n < width; n++) sum += query[n] * number(key[n]);
    return sum;
}

// SPANS * SPAN numbers of the sum of values [count, width], weighted.
template <int SPANS>
inline void weighted(const float* weights, const uint16_t* values, float* out, long count, long width, float divisor) {
    Floats even[SPANS] = {}, odd[SPANS] = {};
    for (long s = 0; s < count; s++)
#pragma GCC unroll 4
        for (int v = 0; v < SPANS; v++) {
            const Words both = pairs(values + s * width + v * SPAN);
            even[v] += weights[s] * evens(both);
            odd[v] += weights[s] * odds(both);
        }
    for (int v = 0; v < SPANS; v++)
        for (int pair = 0; pair < PAIRS; pair++) {
            out[v * SPAN + 2 * pair] = even[v][pair] / divisor;
            out[v * SPAN + 2 * pair + 1] = odd[v][pair] / divisor;
        }
}

inline void attend_one(const Attention& to, const float* query, const uint16_t* keys, const uint16_t* values,
                       float* out, float* scores, long room) {
    part(query, out, to.width / SPAN * SPAN);  // where what it sees goes later
    for (long s = 0; s < to.count; s++) scores[s] = to.scale * dot(query, out, keys + s * to.width, to.width);
    if (to.cap > 0)
        for (long s = 0; s < to.count; s++) scores[s] = to.cap * std::tanh(scores[s] / to.cap);
    const float sum = softmax(scores, to.count, room);
    long n = 0;
    for (; n + 2 * SPAN <= to.width; n += 2 * SPAN) weighted<2>(scores, values + n, out + n, to.count, to.width, sum);
    for (; n + SPAN <= to.width; n += SPAN) weighted<1>(scores, values + n, out + n, to.count, to.width, sum);
    for (; n < to.width; n++) {
        float rest = 0;
        for (long s = 0; s < to.count; s++) rest += scores[s] * number(values[s * to.width + n]);
        out[n] = rest / sum;
    }
}

constexpr long WORTH_A_THREAD = 1 << 15;  // multiplications: fewer take less time than another thread to wake

}  // namespace

extern "C" {

// y = x W' + b, of several weights [outs, ins] for the same x [rows, ins].
void tilth_products(const Product* products, long count, const float* x, long rows) {
    const long ins = products[0].ins, whole = ins / SPAN * SPAN;
    thread_local std::vector<Floats> room;  // of vectors, which lie where they are read fastest
    if (room.size() * PAIRS < size_t(rows * whole)) room.resize(rows * whole / PAIRS);
    Ready* ready = reinterpret_cast<Ready*>(room.data());
    for (long row = 0; row < rows; row++) make_ready(x + row * ins, ready + row * whole, whole);
    const Input of = {x, ready, rows, whole};
    long all = 0, work = 0;
    for (long p = 0; p < count; p++) all += products[p].outs, work += products[p].outs * products[p].ins * rows;
#pragma omp parallel if (work > WORTH_A_THREAD)
    {
        const long threads = omp_get_num_threads(), thread = omp_get_thread_num();
        // Each thread has a range of all outputs.
        const long blocks = (all + 7) / 8, first = blocks * thread / threads * 8;
        const long last = std::min(all, blocks * (thread + 1) / threads * 8);
        long before = 0;
        for (long p = 0; p < count; before += products[p++].outs) {
            const long low = std::max(first - before, 0L), high = std::min(last - before, products[p].outs);
            if (low >= high) continue;
            if (rows > 2) outputs<WIDE>(products[p], of, low, high);
            else outputs<2 * WIDE>(products[p], of, low, high);
        }
    }
}

// softmax(scale q k') v for one query of each head: q and out [batch, heads, width], whose rows lie `step` and
// heads * width apart; the heads of a group see the same keys.
void tilth_attend(const Attention* given, const float* queries, float* out, float* scores) {
    const Attention& to = *given;
    const long groups = to.heads / to.kv_heads, room = (to.count + PAIRS - 1) / PAIRS * PAIRS;
#pragma omp parallel for schedule(static) if (to.batch * to.heads * to.count * to.width > WORTH_A_THREAD)
    for (long at = 0; at < to.batch * to.heads; at++) {  // the heads of a group follow each other: mostly one thread's
        const long row = at / to.heads, head = at % to.heads;
        const long place = row * to.row_step + head / groups * to.head_step;
        attend_one(to, queries + row * to.step + head * to.width, to.keys + place, to.values + place,
                   out + at * to.width, scores + at * room, room);
    }
}
}
