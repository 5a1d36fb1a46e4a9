// Crop and resize: exact means over boxes of pixels, in one pass over the picture's rows.
#include "geometry.hpp"

#include <algorithm>
#include <vector>

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
    std::vector<uint32_t> line;
};

// A row's bytes from `left` on, as RGBRGB...: in place where they lie so, else copied to `buffer`.
const uint8_t* contiguous(const Source& picture, int64_t y, int64_t left, int64_t count, uint8_t* buffer) {
    const uint8_t* from = picture.at(y, left);
    if (picture.channel == 1 && picture.column == 3) return from;
    for (int64_t x = 0; x < count; ++x, from += picture.column) {
        buffer[3 * x] = from[0];
        buffer[3 * x + 1] = from[picture.channel];
        buffer[3 * x + 2] = from[2 * picture.channel];
    }
    return buffer;
}

void add_row(uint16_t* __restrict sum, const uint8_t* __restrict a, size_t n) {
    for (size_t i = 0; i < n; ++i) sum[i] = static_cast<uint16_t>(sum[i] + a[i]);
}

void add_four_rows(uint16_t* __restrict sum, const uint8_t* __restrict a, const uint8_t* __restrict b,
                   const uint8_t* __restrict c, const uint8_t* __restrict d, size_t n) {
    for (size_t i = 0; i < n; ++i) sum[i] = static_cast<uint16_t>(sum[i] + a[i] + b[i] + c[i] + d[i]);
}

void add_weighted(uint32_t* __restrict line, const uint8_t* __restrict a, uint32_t weight_a,
                  const uint8_t* __restrict b, uint32_t weight_b, size_t n) {
    for (size_t i = 0; i < n; ++i) line[i] += weight_a * a[i] + weight_b * b[i];
}

void add_middle(uint32_t* __restrict line, uint16_t* __restrict sum, uint32_t unit, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        line[i] += unit * sum[i];
        sum[i] = 0;
    }
}

// The part of the picture that the box covers: columns x0..x1 of the box, as `count` pixels.
struct Span {
    const Source& picture;
    int64_t left, top, count;
};

// line[...] = the weighted sum of the rows of one output row.
void sum_rows(const Span& span, const Taps& tap, int64_t unit, Workspace& work, uint32_t* line) {
    const size_t n = static_cast<size_t>(3 * span.count);
    std::fill_n(line, n, 0u);
    const auto visible = [&](int64_t k) { return span.top + k >= 0 && span.top + k < span.picture.height; };
    const auto row = [&](int64_t k, uint8_t* buffer) {
        return contiguous(span.picture, span.top + k, span.left, span.count, buffer);
    };
    const int64_t begin = std::max(tap.first + 1, -span.top);
    const int64_t end = std::min(tap.last, span.picture.height - span.top);
    const bool in_place = span.picture.channel == 1 && span.picture.column == 3;
    uint16_t* middle = work.middle.data();
    for (int64_t k = begin; k < end;) {
        // 256 rows of 255 fit into 16 bits.
        const int64_t stop = std::min(end, k + 256);
        for (; in_place && k + 4 <= stop; k += 4)
            add_four_rows(middle, row(k, nullptr), row(k + 1, nullptr), row(k + 2, nullptr), row(k + 3, nullptr), n);
        for (; k < stop; ++k) add_row(middle, row(k, work.gathered_first.data()), n);
        add_middle(line, middle, static_cast<uint32_t>(unit), n);
    }
    const uint8_t* nothing = work.zeros.data();
    const bool has_last = tap.last > tap.first && visible(tap.last);
    const uint8_t* first = visible(tap.first) ? row(tap.first, work.gathered_first.data()) : nothing;
    const uint8_t* last = has_last ? row(tap.last, work.gathered_last.data()) : nothing;
    add_weighted(line, first, tap.weight_first, last, tap.weight_last, n);
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

struct Job {
    const Source& picture;
    int64_t left, top, side;
    bool bgr;
    const Target& out;
    const Axes& axes;
};

// Rows begin..end of the output.
void resize_rows(const Job& job, int64_t begin, int64_t end) {
    thread_local Workspace work;
    const auto& [picture, left, top, side, bgr, out, axes] = job;
    const int64_t x0 = std::clamp<int64_t>(left, 0, picture.width);
    const int64_t x1 = std::clamp<int64_t>(left + side, 0, picture.width);
    const size_t bytes = static_cast<size_t>(3 * (x1 - x0));
    work.gathered_first.resize(bytes);
    work.gathered_last.resize(bytes);
    work.zeros.assign(bytes, 0);
    work.middle.assign(bytes, 0);
    work.line.assign(static_cast<size_t>(3 * side), 0);
    const Span span{picture, x0, top, x1 - x0};

    const uint64_t divisor = static_cast<uint64_t>(axes.rows.total) * static_cast<uint64_t>(axes.columns.total);
    // floor((n + 1/2) / d) by the reciprocal is exact: it is at least 1 / 2d from an integer, and d < 2^35.
    const double reciprocal = 1.0 / static_cast<double>(divisor);
    const uint64_t half = divisor / 2;
    const auto mean = [=](uint64_t sum) {
        return static_cast<uint8_t>(static_cast<int64_t>((static_cast<double>(static_cast<int64_t>(sum + half)) + 0.5) * reciprocal));
    };
    const std::ptrdiff_t red = bgr ? 2 * out.channel : 0, blue = bgr ? 0 : 2 * out.channel;
    for (int64_t y = begin; y < end; ++y) {
        if (x1 > x0)
            sum_rows(span, axes.rows.taps[static_cast<size_t>(y)], axes.rows.unit, work, work.line.data() + 3 * (x0 - left));
        uint8_t* to = out.at(y, 0);
        for (const Taps& tap : axes.columns.taps) {
            const Rgb sum = sum_columns(work.line.data(), tap, static_cast<uint64_t>(axes.columns.unit));
            to[red] = mean(sum.r);
            to[out.channel] = mean(sum.g);
            to[blue] = mean(sum.b);
            to += out.column;
        }
    }
}

constexpr int64_t kFewestRows = 8;  // less is done sooner than another thread is woken

}  // namespace

void crop_resize(const Source& picture, int64_t left, int64_t top, int64_t side, bool bgr, const Target& out) {
    thread_local Axes axes;
    axes.rows.set(side, out.height);
    axes.columns.set(side, out.width);
    const Job job{picture, left, top, side, bgr, out, axes};
    pool().split(out.height, kFewestRows, [&](int64_t begin, int64_t end) { resize_rows(job, begin, end); });
}

}  // namespace medtex
