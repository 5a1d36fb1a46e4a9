#include "quality_metrics.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "clones.hpp"

namespace medtex {
namespace {

using std::int16_t;
using std::int32_t;
using std::int64_t;
using std::size_t;
using std::uint16_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

constexpr int64_t kSampledRows = 32;  // at least, where the frame has as many
constexpr int kLit = 16, kLitLuma = 30;  // of 255; luma is 16 at black
constexpr size_t kLanes = 8;
constexpr uint64_t kFactor = 0x9E3779B97F4A7C15, kAcross = 0xD6E8FEB86659FD93;
constexpr int kDiscLit = 10;  // below it a pixel of the disc is border or cut off
constexpr int kClipped = 250;
constexpr int64_t kInset = 4;  // pixels that are kept away from whatever is not lit

// A polynomial of the 64-bit words in each lane; the reference adds the same terms up in another order.
struct Digest {
    std::array<uint64_t, kLanes> lanes{};

    void add(const uint8_t* bytes, size_t n) {
        std::array<uint64_t, kLanes> words;
        for (; n > 0; bytes += std::min(n, sizeof words), n -= std::min(n, sizeof words)) {
            if (n < sizeof words) words.fill(0);
            std::memcpy(words.data(), bytes, std::min(n, sizeof words));
            for (size_t k = 0; k < kLanes; ++k) lanes[k] = lanes[k] * kFactor + words[k];
        }
    }

    uint64_t value() const {
        uint64_t sum = 0;
        for (const uint64_t lane : lanes) sum = sum * kAcross + lane;
        return sum;
    }
};

MEDTEX_CLONES
int64_t count_lit(const uint8_t* bytes, size_t n, size_t step, uint8_t least) {
    int64_t count = 0;
    if (step == 1) {
        for (size_t i = 0; i < n; ++i) count += bytes[i] >= least;
    } else {
        for (size_t i = 0; i < n; i += 2) count += bytes[i] >= least;
    }
    return count;
}

struct Workspace {
    std::vector<uint8_t> row;                              // of a frame whose bytes do not lie side by side
    std::vector<uint8_t> disc, top, grey, inside;  // n x n
    std::vector<uint8_t> scratch, across;
    std::vector<uint16_t> levels, once, twice, line;       // n x n, and a row with a margin
    std::vector<uint16_t> half, two, four;                 // n / 2 squared
    std::vector<uint8_t> ones, sparse;                     // of a row
    std::vector<int16_t> detail;
};

Workspace& workspace() {
    thread_local Workspace work;
    return work;
}

constexpr size_t kMargin = 2;

// A binomial blur of five (or three) taps along a row, `line` with `kMargin` on both sides; 12 bits stay 12 bits, and
// the sums stay within 16, which the casts state for the compiler.
MEDTEX_CLONES
void blur_row(const uint16_t* __restrict line, uint16_t* __restrict out, size_t n, bool five) {
    const uint16_t* p = line + kMargin;
    if (five) {
        for (size_t i = 0; i < n; ++i)
            out[i] = static_cast<uint16_t>(p[i - 2] + p[i + 2] + 4 * (p[i - 1] + p[i + 1]) + 6 * p[i] + 8) >> 4;
    } else {
        for (size_t i = 0; i < n; ++i) out[i] = static_cast<uint16_t>(p[i - 1] + p[i + 1] + 2 * p[i] + 2) >> 2;
    }
}

MEDTEX_CLONES
void blur_column(const uint16_t* __restrict a, const uint16_t* __restrict b, const uint16_t* __restrict c,
                 const uint16_t* __restrict d, const uint16_t* __restrict e, uint16_t* __restrict out, size_t n,
                 bool five) {
    if (five) {
        for (size_t i = 0; i < n; ++i)
            out[i] = static_cast<uint16_t>(a[i] + e[i] + 4 * (b[i] + d[i]) + 6 * c[i] + 8) >> 4;
    } else {
        for (size_t i = 0; i < n; ++i) out[i] = static_cast<uint16_t>(b[i] + d[i] + 2 * c[i] + 2) >> 2;
    }
}

// Of n x n, first down, then across; the outermost pixels are repeated.
void blur(const uint16_t* from, uint16_t* to, size_t n, bool five, uint16_t* line) {
    const auto row = [&](size_t y, int64_t by) {
        return from + n * static_cast<size_t>(std::clamp<int64_t>(static_cast<int64_t>(y) + by, 0,
                                                                  static_cast<int64_t>(n) - 1));
    };
    for (size_t y = 0; y < n; ++y) {
        blur_column(row(y, -2), row(y, -1), row(y, 0), row(y, 1), row(y, 2), line + kMargin, n, five);
        line[0] = line[1] = line[kMargin];
        line[kMargin + n] = line[kMargin + n + 1] = line[kMargin + n - 1];
        blur_row(line, to + n * y, n, five);
    }
}

MEDTEX_CLONES
void split_row(const uint8_t* __restrict rgb, uint8_t* __restrict top, uint8_t* __restrict grey,
               uint16_t* __restrict level, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        const int r = rgb[3 * i], g = rgb[3 * i + 1], b = rgb[3 * i + 2];
        const int value = (77 * r + 150 * g + 29 * b + 128) >> 8;
        top[i] = static_cast<uint8_t>(std::max({r, g, b}));
        grey[i] = static_cast<uint8_t>(value);
        level[i] = static_cast<uint16_t>(16 * value);
    }
}

// Of rows of at most kMaxMetricsSide pixels, whose sums stay within 16 bits.
MEDTEX_CLONES
uint16_t sum_where(const uint8_t* __restrict where, const uint8_t* __restrict values, size_t n) {
    uint16_t sum = 0;
    for (size_t i = 0; i < n; ++i) sum = static_cast<uint16_t>(sum + (where[i] & values[i]));
    return sum;
}

MEDTEX_CLONES
uint16_t count_where(const uint8_t* __restrict where, const uint8_t* __restrict values, uint8_t least, size_t n) {
    uint16_t count = 0;
    for (size_t i = 0; i < n; ++i)
        count = static_cast<uint16_t>(count + (where[i] & static_cast<int>(values[i] >= least)));
    return count;
}

// a - b where `inside`, else 0; then its sum, and that of its squares.
MEDTEX_CLONES
void detail_of(const uint16_t* __restrict a, const uint16_t* __restrict b, const uint8_t* __restrict inside,
               int16_t* __restrict detail, size_t n) {
    for (size_t i = 0; i < n; ++i)
        detail[i] = static_cast<int16_t>((a[i] - b[i]) & -static_cast<int>(inside[i] & 1));
}

MEDTEX_CLONES
int32_t sum_squares(const int16_t* __restrict a, const int16_t* __restrict b, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
    return sum;
}

MEDTEX_CLONES
int32_t sum_of(const int16_t* __restrict detail, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; ++i) sum += detail[i];
    return sum;
}

// 128 squares of 12 bits stay within 32.
void add_detail(const int16_t* detail, size_t n, int64_t& sum, int64_t& squares) {
    sum += sum_of(detail, n);
    for (size_t i = 0; i < n; i += 128) squares += sum_squares(detail + i, detail + i, std::min<size_t>(n - i, 128));
}

// bits[i] = the least of the nine around `from[i]`, `apart` from each other: pairs, then fours, then eights.
MEDTEX_CLONES
void least_of_nine(const uint8_t* __restrict from, uint8_t* __restrict scratch, uint8_t* __restrict bits,
                   std::ptrdiff_t apart, std::ptrdiff_t n) {
    const std::ptrdiff_t before = 4 * apart;
    for (std::ptrdiff_t i = -before; i < n + 3 * apart; ++i) scratch[i + before] = from[i] & from[i + apart];
    for (std::ptrdiff_t i = 0; i < n + 5 * apart; ++i) scratch[i] = scratch[i] & scratch[i + 2 * apart];
    for (std::ptrdiff_t i = 0; i < n; ++i) bits[i] = scratch[i] & scratch[i + 4 * apart] & from[i + before];
}

// 255 where a pixel and all within `kInset` of it, up, down and across, are 255; `lit`, n x n, is replaced. Its outermost
// rows and columns are dark, beyond the disc, so that no row goes on in the next.
void erode(std::vector<uint8_t>& lit, std::vector<uint8_t>& scratch, std::vector<uint8_t>& across, size_t n) {
    static_assert(kInset == 4);
    const size_t all = n * n, edge = kInset * n;
    scratch.resize(all);
    across.assign(all, 0);
    const auto inner = [all](size_t beyond) { return static_cast<std::ptrdiff_t>(all - 2 * beyond); };
    least_of_nine(lit.data() + n, scratch.data(), across.data() + n, 1, inner(n));
    std::fill(lit.begin(), lit.end(), uint8_t{0});
    least_of_nine(across.data() + edge, scratch.data(), lit.data() + edge, static_cast<std::ptrdiff_t>(n), inner(edge));
}

// 255 within a circle of nine tenths of the width; kept, since the width never changes.
void set_disc(std::vector<uint8_t>& disc, int64_t side) {
    if (disc.size() == static_cast<size_t>(side * side)) return;
    disc.clear();
    for (int64_t y = 0; y < side; ++y)
        for (int64_t x = 0; x < side; ++x) {
            const int64_t dx = 2 * x + 1 - side, dy = 2 * y + 1 - side;
            disc.push_back(100 * (dx * dx + dy * dy) < 81 * side * side ? 255 : 0);
        }
}

MEDTEX_CLONES
void lit_of(const uint8_t* __restrict disc, const uint8_t* __restrict top, uint8_t* __restrict lit, size_t n) {
    for (size_t i = 0; i < n; ++i) lit[i] = static_cast<uint8_t>(disc[i] & -static_cast<int>(top[i] > kDiscLit));
}

template <class Value>
void every_second(const Value* __restrict from, Value* __restrict to, size_t n) {
    for (size_t i = 0; i < n; ++i) to[i] = from[2 * i];
}

// Splits the picture into its planes and sets `inside` to its lit disc.
void split_planes(const Picture<const uint8_t>& picture, Workspace& work, QualityMetrics& sums) {
    const size_t n = static_cast<size_t>(picture.width);
    const bool packed = picture.channel == 1 && picture.column == 3;
    set_disc(work.disc, picture.width);
    work.row.resize(3 * n);
    for (size_t y = 0; y < n; ++y) {
        const uint8_t* row = picture.at(static_cast<int64_t>(y), 0);
        if (!packed) {
            for (size_t i = 0; i < 3 * n; ++i)
                work.row[i] = row[static_cast<int64_t>(i / 3) * picture.column +
                                  static_cast<int64_t>(i % 3) * picture.channel];
            row = work.row.data();
        }
        const size_t at = n * y;
        split_row(row, &work.top[at], &work.grey[at], &work.levels[at], n);
        sums.disc += sum_where(&work.disc[at], work.ones.data(), n);
        sums.disc_top += sum_where(&work.disc[at], &work.top[at], n);
        lit_of(&work.disc[at], &work.top[at], &work.inside[at], n);
    }
    erode(work.inside, work.scratch, work.across, n);
}

}  // namespace

FramePrecheck precheck_frame(const Source& frame) {
    Workspace& work = workspace();
    const bool planes = frame.layout == Layout::nv12, pairs = frame.layout == Layout::yuyv;
    const bool luma = planes || pairs;
    const int64_t bytes = frame.layout == Layout::grey || planes ? 1 : pairs ? 2 : 3;
    const bool packed = luma || (frame.column == bytes && (bytes == 1 || frame.channel == 1));
    const int64_t step = std::max<int64_t>(1, frame.height / kSampledRows);
    const size_t n = static_cast<size_t>(bytes * frame.width), apart = pairs ? 2 : 1;
    const uint8_t least = luma ? kLitLuma : kLit;
    Digest digest;
    FramePrecheck precheck;
    work.row.resize(n);
    for (int64_t y = 0; y < frame.height; y += step) {
        const uint8_t* row = frame.at(y, 0);
        if (!packed) {
            uint8_t* to = work.row.data();
            for (int64_t x = 0; x < frame.width; ++x)
                for (int64_t c = 0; c < bytes; ++c) *to++ = frame.at(y, x)[c * frame.channel];
            row = work.row.data();
        }
        digest.add(row, n);
        precheck.lit += count_lit(row, n, apart, least);
        precheck.sampled += static_cast<int64_t>(n / apart);
    }
    precheck.digest = digest.value();
    return precheck;
}

QualityMetrics quality_metrics(const Picture<const std::uint8_t>& picture, float* structure) {
    Workspace& work = workspace();
    QualityMetrics sums;
    const size_t n = static_cast<size_t>(picture.width), h = n / 2, q = n / 4;
    for (auto* plane : {&work.top, &work.grey, &work.inside}) plane->resize(n * n);
    for (auto* plane : {&work.levels, &work.once, &work.twice}) plane->resize(n * n);
    for (auto* plane : {&work.half, &work.two, &work.four}) plane->resize(h * h);
    work.line.resize(n + 2 * kMargin);
    work.detail.resize(n);
    work.sparse.resize(h);
    work.ones.assign(n, 1);
    split_planes(picture, work, sums);
    uint16_t* const line = work.line.data();
    blur(work.levels.data(), work.once.data(), n, true, line);
    blur(work.once.data(), work.twice.data(), n, true, line);
    int16_t* const detail = work.detail.data();
    for (size_t y = 0; y < n; ++y) {
        const size_t at = n * y;
        const uint8_t* const inside = &work.inside[at];
        sums.inside += sum_where(inside, work.ones.data(), n);
        sums.top += sum_where(inside, &work.top[at], n);
        sums.grey += sum_where(inside, &work.grey[at], n);
        sums.clipped += count_where(inside, &work.top[at], kClipped, n);
        detail_of(&work.once[at], &work.twice[at], inside, detail, n);
        add_detail(detail, n, sums.fine, sums.fine_squares);
    }
    // At half the size variance counts four times: 2 + 4 (1/2) = 4, and 4 + 4 (1 + 1 + 1) = 16.
    for (size_t y = 0; y < h; ++y) every_second(&work.twice[2 * n * y], &work.half[h * y], h);
    blur(work.half.data(), work.two.data(), h, false, line);
    blur(work.two.data(), work.four.data(), h, true, line);
    blur(work.four.data(), work.half.data(), h, true, line);
    blur(work.half.data(), work.four.data(), h, true, line);
    std::fill_n(structure, q * q, 0.0f);
    for (size_t y = 0; y < h; ++y) {
        every_second(&work.inside[2 * n * y], work.sparse.data(), h);
        sums.coarse_inside += sum_where(work.sparse.data(), work.ones.data(), h);
        detail_of(&work.two[h * y], &work.four[h * y], work.sparse.data(), detail, h);
        add_detail(detail, h, sums.coarse, sums.coarse_squares);
        float* const to = structure + q * (y / 2);
        for (size_t x = 0; x < q; ++x) to[x] += static_cast<float>(detail[2 * x] + detail[2 * x + 1]);
    }
    return sums;
}

}  // namespace medtex
