// Crop and resize: exact means over boxes of pixels, in one pass over the picture's rows.
//
// This file is longer than 400 lines because the passes of one row share a workspace and are inlined into one loop,
// which a division into translation units would prevent.
#include "geometry.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "clones.hpp"
#include "pool.hpp"

namespace medtex {
namespace {

using std::int32_t;
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

// Sums of an output row, and the weight of what is not black beyond the frame, of each of its pixels.
template <class Sum>
struct Planes {
    std::array<std::vector<Sum>, 3> channels;
    std::vector<Sum> visible, visible_columns;
};

struct Workspace {
    std::vector<uint8_t> gathered_first, gathered_last, zeros;
    std::vector<uint16_t> middle;
    std::vector<uint32_t> line, chroma;
    Planes<uint32_t> narrow;
    Planes<uint64_t> wide;
    std::array<std::vector<int32_t>, 3> means;
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

MEDTEX_CLONES
void add_scaled(uint32_t* __restrict line, const uint8_t* __restrict a, uint32_t weight, size_t n) {
    for (size_t i = 0; i < n; ++i) line[i] += weight * a[i];
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
        add_scaled(line, from, weight, n);
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

// Sums of a line's values over each output pixel's interval: value k lies at line[apart * k]. Sum is uint32_t where no
// sum leaves 31 bits, else uint64_t.
template <class Sum>
void sum_columns(const uint32_t* line, int64_t apart, const std::vector<Taps>& taps, Sum unit, Sum* sums) {
    for (const Taps& tap : taps) {
        Sum sum = 0;
        for (int64_t k = tap.first + 1; k < tap.last; ++k) sum += line[apart * k];
        *sums++ = sum * unit + Sum{line[apart * tap.first]} * tap.weight_first +
                  Sum{line[apart * tap.last]} * tap.weight_last;
    }
}

// The same for U and V, of which each value stands for two pixels: pair p lies at line[2 apart p], its V `apart` further
// on. `odd` is 1 where the box begins with the second of a pair.
template <class Sum>
void sum_pairs(const uint32_t* line, int64_t apart, int64_t odd, const std::vector<Taps>& taps, Sum unit, Sum* u,
               Sum* v) {
    struct Both {
        Sum u, v;
    };
    const auto at = [=](int64_t k) {
        const uint32_t* pair = line + 2 * apart * (k >> 1);
        return Both{pair[0], pair[apart]};
    };
    for (const Taps& tap : taps) {
        const Both first = at(tap.first + odd), last = at(tap.last + odd);
        Both sum{0, 0};
        for (int64_t k = tap.first + 1 + odd; k < tap.last + odd;) {
            const Sum times = k % 2 == 0 && k + 1 < tap.last + odd ? 2 : 1;
            const Both pair = at(k);
            sum.u += times * pair.u;
            sum.v += times * pair.v;
            k += static_cast<int64_t>(times);
        }
        *u++ = sum.u * unit + first.u * tap.weight_first + last.u * tap.weight_last;
        *v++ = sum.v * unit + first.v * tap.weight_first + last.v * tap.weight_last;
    }
}

// Three channels at once: four lanes a pixel, of which the fourth holds the next pixel's first channel and is forgotten.
// `line` has a lane's room behind it.
typedef uint32_t Lanes __attribute__((vector_size(16)));

MEDTEX_CLONES
void sum_three(const uint32_t* line, const Taps* taps, size_t n, uint32_t unit, uint32_t* red, uint32_t* green,
               uint32_t* blue) {
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
        red[i] = sum[0];
        green[i] = sum[1];
        blue[i] = sum[2];
    }
}

// What a division by the weight of all taps needs. floor(n / divisor) by the reciprocal is exact, since n + 1/2 is at
// least 1 / 2 divisor from an integer times it, and every n is a whole number that a double holds.
struct Divisor {
    double half, reciprocal;      // of the divisor
    double rgb_half, rgb_reciprocal;  // the same for 256 times it, in which BT.601's integers are
    explicit Divisor(uint64_t divisor)
        : half(static_cast<double>(divisor / 2)), reciprocal(1.0 / static_cast<double>(divisor)),
          rgb_half(128.0 * static_cast<double>(divisor)), rgb_reciprocal(reciprocal / 256.0) {}
};

inline double real(uint32_t sum) { return static_cast<double>(static_cast<int32_t>(sum)); }  // one instruction
inline double real(uint64_t sum) { return static_cast<double>(static_cast<int64_t>(sum)); }

template <class Sum>
inline void divide(const Sum* __restrict sums, const Divisor& by, int32_t* __restrict means, size_t n) {
    const double half = by.half + 0.5, reciprocal = by.reciprocal;
    for (size_t i = 0; i < n; ++i) means[i] = static_cast<int32_t>((real(sums[i]) + half) * reciprocal);
}

// The sums of luma and chroma to RGB; `visible` is the weight of what is not black beyond the frame.
template <class Sum>
inline void divide_yuv(const Sum* __restrict y, const Sum* __restrict u, const Sum* __restrict v,
                       const Sum* __restrict visible, const Divisor& by, int32_t* __restrict red,
                       int32_t* __restrict green, int32_t* __restrict blue, size_t n) {
    const double half = by.rgb_half, reciprocal = by.rgb_reciprocal;
    for (size_t i = 0; i < n; ++i) {
        const double weight = real(visible[i]);
        const double c = 298.0 * (real(y[i]) - 16.0 * weight) + half + 0.5;
        const double d = real(u[i]) - 128.0 * weight, e = real(v[i]) - 128.0 * weight;
        red[i] = static_cast<int32_t>((c + 409.0 * e) * reciprocal);
        green[i] = static_cast<int32_t>((c - 100.0 * d - 208.0 * e) * reciprocal);
        blue[i] = static_cast<int32_t>((c + 516.0 * d) * reciprocal);
    }
}

// Clones cannot be templates.
MEDTEX_CLONES
void divide(const uint32_t* sums, const Divisor& by, int32_t* means, size_t n) {
    divide<uint32_t>(sums, by, means, n);
}

MEDTEX_CLONES
void divide_yuv(const uint32_t* y, const uint32_t* u, const uint32_t* v, const uint32_t* visible, const Divisor& by,
                int32_t* red, int32_t* green, int32_t* blue, size_t n) {
    divide_yuv<uint32_t>(y, u, v, visible, by, red, green, blue, n);
}

void put(const std::array<const int32_t*, 3>& means, size_t n, uint8_t* to, std::ptrdiff_t column,
         std::ptrdiff_t channel) {
    const auto [red, green, blue] = means;
    const auto byte = [](int32_t mean) { return static_cast<uint8_t>(std::clamp(mean, 0, 255)); };
    for (size_t i = 0; i < n; ++i, to += column) {
        to[0] = byte(red[i]);
        to[channel] = byte(green[i]);
        to[2 * channel] = byte(blue[i]);
    }
}

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

// Where a row's sums lie, per channel of the frame.
struct Lines {
    const uint32_t* line;    // begins with the box, or with the pair that it cuts
    const uint32_t* chroma;  // of nv12
    int64_t odd;
};

// From the sums over rows to a row of means, in the frame's order of channels; of grey the first alone.
template <class Sum>
void finish_row(const Job& job, const Lines& from, uint64_t visible_rows, const Divisor& by, Planes<Sum>& sums,
                std::array<std::vector<int32_t>, 3>& means) {
    const auto& taps = job.axes.columns.taps;
    const size_t n = taps.size();
    const Sum unit = static_cast<Sum>(job.axes.columns.unit);
    const Layout layout = job.frame.layout;
    const auto [a, b, c] = std::array{sums.channels[0].data(), sums.channels[1].data(), sums.channels[2].data()};
    if (layout == Layout::yuyv || layout == Layout::nv12) {
        const bool pairs = layout == Layout::yuyv;
        // A line of yuyv holds Y and, in turn, U and V.
        const uint32_t* chroma = pairs ? from.line - 2 * from.odd + 1 : from.chroma;
        sum_columns(from.line, pairs ? 2 : 1, taps, unit, a);
        sum_pairs(chroma, pairs ? 2 : 1, from.odd, taps, unit, b, c);
        for (size_t i = 0; i < n; ++i) sums.visible[i] = static_cast<Sum>(visible_rows) * sums.visible_columns[i];
        divide_yuv(a, b, c, sums.visible.data(), by, means[0].data(), means[1].data(), means[2].data(), n);
        return;
    }
    if (layout == Layout::grey) {
        sum_columns(from.line, 1, taps, unit, a);
        divide(a, by, means[0].data(), n);
        return;
    }
    if constexpr (sizeof(Sum) == 4) {
        sum_three(from.line, taps.data(), n, unit, a, b, c);
    } else {
        for (size_t k = 0; k < 3; ++k) sum_columns(from.line + k, 3, taps, unit, sums.channels[k].data());
    }
    for (size_t k = 0; k < 3; ++k) divide(sums.channels[k].data(), by, means[k].data(), n);
}

template <class Sum>
void make_room(const Job& job, Planes<Sum>& sums) {
    const auto& columns = job.axes.columns;
    for (auto& channel : sums.channels) channel.resize(columns.taps.size());
    sums.visible.resize(columns.taps.size());
    sums.visible_columns.clear();
    for (const Taps& tap : columns.taps)
        sums.visible_columns.push_back(
            static_cast<Sum>(visible_weight(tap, columns.unit, -job.left, job.frame.width - job.left)));
}

// Rows begin..end of the output.
void resize_rows(const Job& job, int64_t begin, int64_t end) {
    thread_local Workspace kept;
    Workspace& work = kept;  // one access to the thread-local storage
    const auto& [frame, left, top, side, out, axes] = job;
    const Strip strip = strip_of(job);
    work.gathered_first.resize(strip.size());
    work.gathered_last.resize(strip.size());
    work.zeros.assign(strip.size(), 0);
    work.middle.assign(strip.size(), 0);
    // The sums begin where the box does, or one pixel before it, with the pair that it cuts.
    const bool planes = frame.layout == Layout::nv12;
    const int64_t odd = planes || frame.layout == Layout::yuyv ? left & 1 : 0;
    work.line.assign(static_cast<size_t>(strip.bytes * (side + 2)), 0);
    work.chroma.assign(planes ? static_cast<size_t>(side + 2) : 0, 0);
    const size_t offset = static_cast<size_t>(strip.left - (left - odd));

    const uint64_t divisor = static_cast<uint64_t>(axes.rows.total) * static_cast<uint64_t>(axes.columns.total);
    const Divisor by(divisor);
    const bool narrow = 256 * divisor < uint64_t{1} << 31;
    const size_t across = axes.columns.taps.size();
    if (narrow)
        make_room(job, work.narrow);
    else
        make_room(job, work.wide);
    for (auto& plane : work.means) plane.resize(across);
    // Of grey there is one mean for all three; of bgr the last is red.
    const size_t red = frame.layout == Layout::bgr ? 2 : 0, blue = 2 - red, only = frame.layout == Layout::grey ? 0 : 1;
    const std::array<const int32_t*, 3> means{work.means[red * only].data(), work.means[only].data(),
                                              work.means[blue * only].data()};
    const Lines lines{work.line.data() + strip.bytes * odd, work.chroma.data(), odd};
    for (int64_t y = begin; y < end; ++y) {
        const Taps& rows = axes.rows.taps[static_cast<size_t>(y)];
        if (strip.count > 0) {
            sum_rows(strip, top, rows, axes.rows.unit, work, work.line.data() + static_cast<size_t>(strip.bytes) * offset);
            if (planes) {
                uint32_t* chroma = work.chroma.data() + offset;
                sum_chroma(frame, top, rows, axes.rows.unit, strip.left, static_cast<size_t>(strip.count), chroma);
            }
        }
        const uint64_t visible_rows = visible_weight(rows, axes.rows.unit, -top, frame.height - top);
        if (narrow)
            finish_row(job, lines, visible_rows, by, work.narrow, work.means);
        else
            finish_row(job, lines, visible_rows, by, work.wide, work.means);
        put(means, across, out.at(y, 0), out.column, out.channel);
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
