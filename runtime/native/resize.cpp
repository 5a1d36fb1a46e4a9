// Crop and resize: exact means over boxes of pixels, in one pass over the picture's rows.
#include "geometry.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "clones.hpp"
#include "pool.hpp"

namespace medtex {
namespace {

using std::int64_t;
using std::size_t;
using std::uint16_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

// An output pixel is the weighted sum of source pixels first..last: all those between weigh `unit`.
struct Taps {
    int64_t first, last;
    uint32_t weight_first, weight_last;
};

struct Axis {
    std::vector<Taps> taps;
    int64_t unit = 0, total = 0;  // weight of a pixel that is wholly inside, and of all together

    void set(int64_t side, int64_t n) {
        const bool shrink = side >= n;
        unit = shrink ? n : 2 * n;
        total = shrink ? side : 2 * n;
        taps.resize(static_cast<size_t>(n));
        for (int64_t i = 0; i < n; ++i) {
            const int64_t start = shrink ? i * side : (2 * i + 1) * side - n;
            const int64_t end = start + total;
            // Beyond the box its outermost pixels are repeated, so they carry the weight of what lies there.
            const int64_t first = start < 0 ? 0 : std::min(start / unit, side - 1);
            const int64_t last = std::min((end - 1) / unit, side - 1);
            Taps& tap = taps[static_cast<size_t>(i)];
            tap.first = first;
            tap.last = last;
            if (first == last) {
                tap.weight_first = static_cast<uint32_t>(end - start);
                tap.weight_last = 0;
            } else {
                tap.weight_first = static_cast<uint32_t>((first + 1) * unit - start);
                tap.weight_last = static_cast<uint32_t>(end - last * unit);
            }
        }
    }
};

// The axes of a call, and what each thread that takes part needs. Both are kept from call to call: a stream of frames of
// one size allocates nothing after the first.
struct Axes {
    Axis rows, columns;
};

struct Workspace {
    std::vector<uint8_t> gathered_first, gathered_last, zeros;
    std::vector<uint16_t> middle;
    std::vector<uint32_t> line, chroma, sums;
    std::vector<uint8_t> means;
};

// Rows of `count` pixels of `bytes` each, from column `left` of `rows` rows.
struct Strip {
    const uint8_t* data;
    int64_t rows, left, count;
    std::ptrdiff_t row, column, channel;
    int64_t bytes;

    bool packed() const { return channel == 1 && column == bytes; }
    size_t size() const { return static_cast<size_t>(bytes * count); }

    // A row's bytes side by side: in place where they lie so, else copied to `buffer`.
    const uint8_t* at(int64_t y, uint8_t* buffer) const {
        const uint8_t* from = data + y * row + left * column;
        if (packed()) return from;
        uint8_t* to = buffer;
        for (int64_t x = 0; x < count; ++x, from += column)
            for (int64_t c = 0; c < bytes; ++c) *to++ = from[c * channel];
        return buffer;
    }
};

MEDTEX_CLONES
void add_row(uint16_t* __restrict sum, const uint8_t* __restrict a, size_t n) {
    for (size_t i = 0; i < n; ++i) sum[i] = static_cast<uint16_t>(sum[i] + a[i]);
}

MEDTEX_CLONES
void add_four_rows(uint16_t* __restrict sum, const uint8_t* __restrict a, const uint8_t* __restrict b,
                   const uint8_t* __restrict c, const uint8_t* __restrict d, size_t n) {
    for (size_t i = 0; i < n; ++i) sum[i] = static_cast<uint16_t>(sum[i] + a[i] + b[i] + c[i] + d[i]);
}

// The first and the last row of an output row, weighted, and up to five between them.
struct Rows {
    const uint8_t *first, *last;
    uint32_t weight_first, weight_last, unit;
    std::array<const uint8_t*, 5> between;
};

MEDTEX_CLONES
void sum_few_rows(uint32_t* __restrict line, const Rows& rows, size_t n) {
    const uint8_t *a = rows.first, *b = rows.last;
    const auto [p, q, r, s, t] = rows.between;
    const uint32_t weight_a = rows.weight_first, weight_b = rows.weight_last, unit = rows.unit;
    for (size_t i = 0; i < n; ++i) {
        const uint16_t between = static_cast<uint16_t>(p[i] + q[i] + r[i] + s[i] + t[i]);
        line[i] = weight_a * a[i] + weight_b * b[i] + unit * between;
    }
}

MEDTEX_CLONES
void add_middle(uint32_t* __restrict line, uint16_t* __restrict sum, uint32_t unit, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        line[i] += unit * sum[i];
        sum[i] = 0;
    }
}

// line[...] = the weighted sum of the rows of one output row; `top` is the row of the strip where the box begins.
void sum_rows(const Strip& strip, int64_t top, const Taps& tap, int64_t unit, Workspace& work, uint32_t* line) {
    const size_t n = strip.size();
    const auto visible = [&](int64_t k) { return top + k >= 0 && top + k < strip.rows; };
    const auto row = [&](int64_t k, uint8_t* buffer) { return strip.at(top + k, buffer); };
    const uint8_t* const nothing = work.zeros.data();
    Rows few{nothing, nothing, tap.weight_first, tap.weight_last, static_cast<uint32_t>(unit), {}};
    few.between.fill(nothing);
    if (visible(tap.first)) few.first = row(tap.first, work.gathered_first.data());
    if (tap.last > tap.first && visible(tap.last)) few.last = row(tap.last, work.gathered_last.data());
    int64_t k = std::max(tap.first + 1, -top);
    const int64_t end = std::min(tap.last, strip.rows - top);
    if (strip.packed()) {
        for (const uint8_t*& between : few.between)
            if (k < end) between = row(k++, nullptr);
    }
    sum_few_rows(line, few, n);
    uint16_t* const middle = work.middle.data();
    while (k < end) {
        // 256 rows of 255 fit into 16 bits.
        const int64_t stop = std::min(end, k + 256);
        for (; strip.packed() && k + 4 <= stop; k += 4)
            add_four_rows(middle, row(k, nullptr), row(k + 1, nullptr), row(k + 2, nullptr), row(k + 3, nullptr), n);
        for (; k < stop; ++k) add_row(middle, row(k, work.gathered_first.data()), n);
        add_middle(line, middle, static_cast<uint32_t>(unit), n);
    }
}

uint32_t weight_of(const Taps& tap, int64_t unit, int64_t k) {
    if (k == tap.first) return tap.weight_first;
    return k == tap.last ? tap.weight_last : static_cast<uint32_t>(unit);
}

// The same for rows of chroma, each of which stands for two rows of the frame.
void sum_chroma(const Source& frame, int64_t top, const Taps& tap, int64_t unit, int64_t left, size_t n,
                uint32_t* line) {
    std::fill_n(line, n, 0u);
    const int64_t begin = std::max(tap.first, -top), end = std::min(tap.last + 1, frame.height - top);
    for (int64_t k = begin; k < end;) {
        const int64_t row = (top + k) >> 1;
        uint32_t weight = 0;
        for (; k < end && (top + k) >> 1 == row; ++k) weight += weight_of(tap, unit, k);
        const uint8_t* from = frame.chroma + row * frame.chroma_row + left;
        for (size_t i = 0; i < n; ++i) line[i] += weight * from[i];
    }
}

// The weight of an output pixel's taps that lie within `begin`..`end`, in pixels of the box.
uint64_t visible_weight(const Taps& tap, int64_t unit, int64_t begin, int64_t end) {
    const auto inside = [&](int64_t k) { return k >= begin && k < end; };
    uint64_t weight = inside(tap.first) ? tap.weight_first : 0;
    if (tap.last > tap.first && inside(tap.last)) weight += tap.weight_last;
    const int64_t between = std::min(tap.last, end) - std::max(tap.first + 1, begin);
    return weight + static_cast<uint64_t>(std::max<int64_t>(between, 0) * unit);
}

struct Rgb {
    uint64_t r, g, b;
};

Rgb sum_columns(const uint32_t* line, const Taps& tap, uint64_t unit) {
    Rgb sum{0, 0, 0};
    for (int64_t k = tap.first + 1; k < tap.last; ++k) {
        sum.r += line[3 * k];
        sum.g += line[3 * k + 1];
        sum.b += line[3 * k + 2];
    }
    const uint32_t* first = line + 3 * tap.first;
    const uint32_t* last = line + 3 * tap.last;
    const uint64_t w = tap.weight_first, v = tap.weight_last;
    return {sum.r * unit + first[0] * w + last[0] * v, sum.g * unit + first[1] * w + last[1] * v,
            sum.b * unit + first[2] * w + last[2] * v};
}

// The same for all of a row where no sum leaves 31 bits: four lanes a pixel, of which the fourth holds the next pixel's
// first channel and is forgotten. `line` has a lane's room behind it.
typedef uint32_t Lanes __attribute__((vector_size(16)));

MEDTEX_CLONES
void sum_columns(const uint32_t* line, const Taps* taps, size_t n, uint32_t unit, uint32_t* sums) {
    const auto pixel = [line](int64_t k) {
        Lanes lanes;
        std::memcpy(&lanes, line + 3 * k, sizeof lanes);
        return lanes;
    };
    for (size_t i = 0; i < n; ++i) {
        const Taps& tap = taps[i];
        Lanes sum{0, 0, 0, 0};
        for (int64_t k = tap.first + 1; k < tap.last; ++k) sum += pixel(k);
        sum = sum * unit + pixel(tap.first) * tap.weight_first + pixel(tap.last) * tap.weight_last;
        std::memcpy(sums + 4 * i, &sum, sizeof sum);
    }
}

// floor((sum + half) / divisor), as `Divide` does it.
MEDTEX_CLONES
void divide_row(const uint32_t* __restrict sums, int32_t half, double reciprocal, uint8_t* __restrict means, size_t n) {
    for (size_t i = 0; i < n; ++i)
        means[i] = static_cast<uint8_t>(
            static_cast<int32_t>((static_cast<double>(static_cast<int32_t>(sums[i]) + half) + 0.5) * reciprocal));
}

void put_row(const uint8_t* means, size_t n, uint8_t* to, std::ptrdiff_t column,
             const std::array<std::ptrdiff_t, 3> channels) {
    for (size_t i = 0; i < n; ++i, means += 4, to += column) {
        to[channels[0]] = means[0];
        to[channels[1]] = means[1];
        to[channels[2]] = means[2];
    }
}

uint64_t sum_one(const uint32_t* line, const Taps& tap, uint64_t unit) {
    uint64_t sum = 0;
    for (int64_t k = tap.first + 1; k < tap.last; ++k) sum += line[k];
    return sum * unit + line[tap.first] * uint64_t{tap.weight_first} + line[tap.last] * uint64_t{tap.weight_last};
}

struct Yuv {
    uint64_t y, u, v;
};

// Luma of pixel k at line[kLuma * k]; its U at chroma[2 * kApart * pair], its V kApart further on.
template <int kLuma, int kApart>
Yuv sum_yuv(const uint32_t* line, const uint32_t* chroma, int64_t odd, const Taps& tap, uint64_t unit) {
    const auto pair = [&](int64_t k) { return chroma + 2 * kApart * ((k + odd) >> 1); };
    Yuv sum{0, 0, 0};
    for (int64_t k = tap.first + 1; k < tap.last; ++k) {
        sum.y += line[kLuma * k];
        sum.u += pair(k)[0];
        sum.v += pair(k)[kApart];
    }
    const uint64_t w = tap.weight_first, x = tap.weight_last;
    return {sum.y * unit + line[kLuma * tap.first] * w + line[kLuma * tap.last] * x,
            sum.u * unit + pair(tap.first)[0] * w + pair(tap.last)[0] * x,
            sum.v * unit + pair(tap.first)[kApart] * w + pair(tap.last)[kApart] * x};
}

// floor(n / d), clipped to 0..255, by the reciprocal: exact, since n + 1/2 is at least 1 / 2d from an integer times d.
struct Divide {
    double reciprocal;
    explicit Divide(uint64_t divisor) : reciprocal(1.0 / static_cast<double>(divisor)) {}
    uint8_t operator()(int64_t n) const {
        const int64_t value = static_cast<int64_t>((static_cast<double>(std::max<int64_t>(n, 0)) + 0.5) * reciprocal);
        return static_cast<uint8_t>(std::min<int64_t>(value, 255));
    }
};

// The mean of luma and chroma to RGB; `seen` is the weight of what is not black beyond the frame.
struct ToRgb {
    int64_t half;
    Divide divide;
    explicit ToRgb(uint64_t divisor) : half(128 * static_cast<int64_t>(divisor)), divide(256 * divisor) {}
    void operator()(const Yuv& sum, uint64_t seen, uint8_t* to, std::ptrdiff_t channel) const {
        const int64_t s = static_cast<int64_t>(seen), c = 298 * (static_cast<int64_t>(sum.y) - 16 * s) + half;
        const int64_t d = static_cast<int64_t>(sum.u) - 128 * s, e = static_cast<int64_t>(sum.v) - 128 * s;
        to[0] = divide(c + 409 * e);
        to[channel] = divide(c - 100 * d - 208 * e);
        to[2 * channel] = divide(c + 516 * d);
    }
};

struct Job {
    const Source& frame;
    int64_t left, top, side;
    const Target& out;
    const Axes& axes;
};

// What of the frame a box covers, and how its bytes lie.
Strip strip_of(const Job& job) {
    const Source& f = job.frame;
    int64_t x0 = std::clamp<int64_t>(job.left, 0, f.width), x1 = std::clamp<int64_t>(job.left + job.side, 0, f.width);
    const bool grey = f.layout == Layout::grey, pairs = f.layout == Layout::yuyv, planes = f.layout == Layout::nv12;
    if (pairs || planes) x0 &= ~int64_t{1}, x1 = (x1 + 1) & ~int64_t{1};
    const int64_t bytes = pairs ? 2 : grey || planes ? 1 : 3;
    return {f.data, f.height, x0, x1 - x0, f.row, f.column, bytes == 1 ? 1 : f.channel, bytes};
}

// Rows begin..end of the output.
void resize_rows(const Job& job, int64_t begin, int64_t end) {
    thread_local Workspace kept;
    Workspace& work = kept;  // looked for once
    const auto& [frame, left, top, side, out, axes] = job;
    const Strip strip = strip_of(job);
    work.gathered_first.resize(strip.size());
    work.gathered_last.resize(strip.size());
    work.zeros.assign(strip.size(), 0);
    work.middle.assign(strip.size(), 0);
    // The sums begin where the box does, or one pixel before it, with the pair that it cuts.
    const bool pairs = frame.layout == Layout::yuyv, planes = frame.layout == Layout::nv12;
    const int64_t odd = pairs || planes ? left & 1 : 0, first = left - odd;
    work.line.assign(static_cast<size_t>(strip.bytes * (side + 2)), 0);
    work.chroma.assign(planes ? static_cast<size_t>(side + 2) : 0, 0);
    const size_t offset = static_cast<size_t>(strip.left - first);

    const uint64_t divisor = static_cast<uint64_t>(axes.rows.total) * static_cast<uint64_t>(axes.columns.total);
    const uint64_t unit = static_cast<uint64_t>(axes.columns.unit);
    const int64_t half = static_cast<int64_t>(divisor / 2);
    const Divide divide(divisor);
    const ToRgb to_rgb(divisor);
    const size_t across = axes.columns.taps.size();
    const bool narrow = strip.bytes == 3 && 256 * divisor < uint64_t{1} << 31;
    work.sums.resize(narrow ? 4 * across : 0);
    work.means.resize(work.sums.size());
    const std::ptrdiff_t red = frame.layout == Layout::bgr ? 2 * out.channel : 0, blue = 2 * out.channel - red;
    const int64_t seen_from = -left, seen_to = frame.width - left;
    for (int64_t y = begin; y < end; ++y) {
        const Taps& rows = axes.rows.taps[static_cast<size_t>(y)];
        if (strip.count > 0) {
            uint32_t* line = work.line.data() + static_cast<size_t>(strip.bytes) * offset;
            sum_rows(strip, top, rows, axes.rows.unit, work, line);
            if (planes) {
                uint32_t* chroma = work.chroma.data() + offset;
                sum_chroma(frame, top, rows, axes.rows.unit, strip.left, static_cast<size_t>(strip.count), chroma);
            }
        }
        const uint64_t seen_rows = pairs || planes ? visible_weight(rows, axes.rows.unit, -top, frame.height - top) : 0;
        const uint32_t* line = work.line.data() + strip.bytes * odd;
        uint8_t* to = out.at(y, 0);
        if (narrow) {
            sum_columns(line, axes.columns.taps.data(), across, static_cast<uint32_t>(unit), work.sums.data());
            divide_row(work.sums.data(), static_cast<int32_t>(half), divide.reciprocal, work.means.data(), 4 * across);
            put_row(work.means.data(), across, to, out.column, {red, out.channel, blue});
            continue;
        }
        for (const Taps& tap : axes.columns.taps) {
            if (pairs || planes) {
                const uint64_t seen = seen_rows * visible_weight(tap, axes.columns.unit, seen_from, seen_to);
                const Yuv sum = pairs ? sum_yuv<2, 2>(line, work.line.data() + 1, odd, tap, unit)
                                      : sum_yuv<1, 1>(line, work.chroma.data(), odd, tap, unit);
                to_rgb(sum, seen, to, out.channel);
            } else if (strip.bytes == 1) {
                const uint8_t grey = divide(static_cast<int64_t>(sum_one(line, tap, unit)) + half);
                to[0] = to[out.channel] = to[2 * out.channel] = grey;
            } else {
                const Rgb sum = sum_columns(line, tap, unit);
                to[red] = divide(static_cast<int64_t>(sum.r) + half);
                to[out.channel] = divide(static_cast<int64_t>(sum.g) + half);
                to[blue] = divide(static_cast<int64_t>(sum.b) + half);
            }
            to += out.column;
        }
    }
}

constexpr int64_t kFewestRows = 8;  // less is done sooner than another thread is woken

}  // namespace

void crop_resize(const Source& frame, int64_t left, int64_t top, int64_t side, const Target& out) {
    thread_local Axes axes;
    axes.rows.set(side, out.height);
    axes.columns.set(side, out.width);
    const Job job{frame, left, top, side, out, axes};
    pool().split(out.height, kFewestRows, [&](int64_t begin, int64_t end) { resize_rows(job, begin, end); });
}

}  // namespace medtex
