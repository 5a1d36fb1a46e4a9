#include "reference.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace reference {
namespace {

using medtex::Layout;
using medtex::Source;
using std::int64_t;
using std::size_t;
using std::uint8_t;

bool is_yuv(Layout layout) { return layout == Layout::yuyv || layout == Layout::nv12; }

// The channels as they come, or Y, U and V.
medtex::Colour raw(const Source& frame, int64_t y, int64_t x) {
    const uint8_t* pixel = frame.data + y * frame.row + x * frame.column;
    if (frame.layout == Layout::grey) return {pixel[0], pixel[0], pixel[0]};
    if (frame.layout == Layout::yuyv) {
        const uint8_t* pair = frame.data + y * frame.row + x / 2 * 4;
        return {pair[x % 2 * 2], pair[1], pair[3]};
    }
    if (frame.layout == Layout::nv12) {
        const uint8_t* pair = frame.chroma + y / 2 * frame.chroma_row + x / 2 * 2;
        return {pixel[0], pair[0], pair[1]};
    }
    return {pixel[0], pixel[frame.channel], pixel[2 * frame.channel]};
}

struct Overlap {
    int64_t pixel, weight;
};

// Which pixels of a frame of `extent` the i-th of n output pixels is the mean of: those under an interval of
// max(side / n, 1) pixels about its centre, in a box of `side` from pixel `start` on. Counted in 2 n parts of a pixel;
// beyond the box its ends are repeated.
std::vector<Overlap> overlaps(int64_t side, int64_t n, int64_t i, int64_t start, int64_t extent) {
    const int64_t part = 2 * n, centre = (2 * i + 1) * side, half = std::max(side, n);
    std::vector<Overlap> found;
    for (int64_t k = (centre - half) / part - 1; k * part < centre + half; ++k) {
        const int64_t weight = std::min(centre + half, (k + 1) * part) - std::max(centre - half, k * part);
        const int64_t pixel = start + std::clamp<int64_t>(k, 0, side - 1);
        if (weight > 0 && pixel >= 0 && pixel < extent) found.push_back({pixel, weight});
    }
    return found;
}

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

uint8_t clip(int64_t value) { return static_cast<uint8_t>(std::clamp<int64_t>(value, 0, 255)); }

// BT.601 of sums: c, d and e are luma less 16 and chroma less 128, all times `divisor`.
medtex::Colour bt601(int64_t c, int64_t d, int64_t e, int64_t divisor) {
    const auto mean = [&](int64_t sum) { return int{clip(floor_div(sum + 128 * divisor, 256 * divisor))}; };
    return {mean(298 * c + 409 * e), mean(298 * c - 100 * d - 208 * e), mean(298 * c + 516 * d)};
}

struct Place {
    int64_t cell, next, fraction;
};

// The cells between whose centres a point lies, given in half pixels, and how far it is from the first, in 256ths,
// rounded down.
Place place(int64_t middle, int64_t side, int64_t cells) {
    const int64_t position = floor_div((middle * cells - side) * 32768, side);
    const int64_t within = std::clamp<int64_t>(position, 0, (cells - 1) * 65536);
    const int64_t cell = within / 65536;
    return {cell, std::min(cell + 1, cells - 1), within % 65536 / 256};
}

int64_t level(float saliency) {
    if (std::isnan(saliency) || saliency <= 0) return 0;
    return std::lrint(std::min(saliency, 1.0f) * 255.0f);
}

}  // namespace

medtex::Colour colour(const Source& frame, int64_t y, int64_t x) {
    const medtex::Colour colour = raw(frame, y, x);
    return is_yuv(frame.layout) ? bt601(colour[0] - 16, colour[1] - 128, colour[2] - 128, 1) : colour;
}

void crop_resize(const Source& frame, int64_t left, int64_t top, int64_t side, const medtex::Target& out) {
    const bool yuv = is_yuv(frame.layout), swapped = frame.layout == Layout::bgr;
    const int64_t divisor = 4 * std::max(side, out.height) * std::max(side, out.width);
    for (int64_t j = 0; j < out.width; ++j) {
        const std::vector<Overlap> columns = overlaps(side, out.width, j, left, frame.width);
        for (int64_t i = 0; i < out.height; ++i) {
            int64_t sums[3] = {0, 0, 0};
            for (const Overlap& row : overlaps(side, out.height, i, top, frame.height))
                for (const Overlap& column : columns) {
                    const medtex::Colour colour = raw(frame, row.pixel, column.pixel);
                    for (int c = 0; c < 3; ++c) {
                        const int zero = yuv ? (c ? 128 : 16) : 0;
                        sums[c] += row.weight * column.weight * (colour[static_cast<size_t>(c)] - zero);
                    }
                }
            const auto mean = [&](int c) { return static_cast<int>((2 * sums[c] + divisor) / (2 * divisor)); };
            const medtex::Colour rgb = yuv ? bt601(sums[0], sums[1], sums[2], divisor)
                                           : medtex::Colour{mean(swapped ? 2 : 0), mean(1), mean(swapped ? 0 : 2)};
            for (int c = 0; c < 3; ++c)
                out.at(i, j)[c * out.channel] = static_cast<uint8_t>(rgb[static_cast<size_t>(c)]);
        }
    }
}

void draw_saliency(const medtex::Target& frame, const medtex::Grid& grid, int64_t left, int64_t top, int64_t side,
                   const uint8_t* table) {
    // So many rows, and two columns where it is more than one, are drawn as what lies in their middle.
    const int64_t share = std::clamp<int64_t>(side / (4 * std::max(grid.rows, grid.columns)), 1, 4);
    const auto at = [&](int64_t r, int64_t c) { return level(grid.data[r * grid.row + c * grid.column]); };
    for (int64_t y = std::max<int64_t>(top, 0); y < std::min(top + side, frame.height); ++y)
        for (int64_t x = std::max<int64_t>(left, 0); x < std::min(left + side, frame.width); ++x) {
            const Place r = place(2 * ((y - top) / share * share) + share, side, grid.rows);
            const Place c = place(share > 1 ? (x - left) / 2 * 4 + 2 : 2 * (x - left) + 1, side, grid.columns);
            const auto column = [&](int64_t k) {
                return at(r.cell, k) * (256 - r.fraction) + at(r.next, k) * r.fraction;
            };
            const int64_t value = column(c.cell) * (256 - c.fraction) + column(c.next) * c.fraction;
            const uint8_t* effect = table + 4 * ((value + 32768) / 65536);
            for (int k = 0; k < 3; ++k) {
                uint8_t& pixel = frame.at(y, x)[k * frame.channel];
                pixel = static_cast<uint8_t>((effect[0] * pixel + 64) / 128 + effect[1 + k]);
            }
        }
}

medtex::FramePrecheck precheck_frame(const Source& frame) {
    const bool yuv = is_yuv(frame.layout);
    const int64_t bytes = frame.layout == Layout::grey || frame.layout == Layout::nv12 ? 1
                          : frame.layout == Layout::yuyv                               ? 2
                                                                                       : 3;
    std::uint64_t lanes[8] = {};
    medtex::FramePrecheck precheck;
    for (int64_t y = 0; y < frame.height; y += std::max<int64_t>(1, frame.height / 32)) {
        std::vector<uint8_t> row;
        for (int64_t x = 0; x < frame.width; ++x)
            for (int64_t c = 0; c < bytes; ++c) {
                row.push_back(frame.at(y, x)[c * frame.channel]);
                if (frame.layout == Layout::yuyv && c == 1) continue;  // chroma is no light
                ++precheck.sampled;
                precheck.lit += row.back() >= (yuv ? 30 : 16);
            }
        row.resize((row.size() + 63) / 64 * 64);
        for (size_t i = 0; i < row.size(); i += 8) {
            std::uint64_t word = 0;
            for (size_t k = 8; k-- > 0;) word = word * 256 + row[i + k];
            std::uint64_t& lane = lanes[i / 8 % 8];
            lane = lane * 0x9E3779B97F4A7C15u + word;
        }
    }
    for (const std::uint64_t lane : lanes) precheck.digest = precheck.digest * 0xD6E8FEB86659FD93u + lane;
    return precheck;
}

namespace {

// A square of whole numbers; beyond its edge its outermost ones are repeated.
struct Plane {
    int64_t n;
    std::vector<int64_t> values;

    explicit Plane(int64_t side) : n(side), values(static_cast<size_t>(side * side)) {}
    int64_t& at(int64_t y, int64_t x) { return values[static_cast<size_t>(y * n + x)]; }
    int64_t near(int64_t y, int64_t x) const {
        return values[static_cast<size_t>(std::clamp<int64_t>(y, 0, n - 1) * n + std::clamp<int64_t>(x, 0, n - 1))];
    }
    // Binomial, of three or five taps, rounded after each direction.
    Plane blurred(int taps) const {
        static constexpr int64_t kWeights[2][5] = {{0, 1, 2, 1, 0}, {1, 4, 6, 4, 1}};
        const int64_t* const weights = kWeights[taps == 5];
        const int64_t all = taps == 5 ? 16 : 4;
        Plane down(n), both(n);
        for (int64_t y = 0; y < n; ++y)
            for (int64_t x = 0; x < n; ++x) {
                int64_t sum = 0;
                for (int64_t k = -2; k <= 2; ++k) sum += weights[k + 2] * near(y + k, x);
                down.at(y, x) = (sum + all / 2) / all;
            }
        for (int64_t y = 0; y < n; ++y)
            for (int64_t x = 0; x < n; ++x) {
                int64_t sum = 0;
                for (int64_t k = -2; k <= 2; ++k) sum += weights[k + 2] * down.near(y, x + k);
                both.at(y, x) = (sum + all / 2) / all;
            }
        return both;
    }
    Plane halved() {
        Plane half(n / 2);
        for (int64_t y = 0; y < n / 2; ++y)
            for (int64_t x = 0; x < n / 2; ++x) half.at(y, x) = at(2 * y, 2 * x);
        return half;
    }
};

}  // namespace

medtex::QualityMetrics quality_metrics(const medtex::Picture<const uint8_t>& picture, float* structure) {
    const int64_t n = picture.width;
    Plane top(n), grey(n), levels(n), lit(n);
    medtex::QualityMetrics sums;
    for (int64_t y = 0; y < n; ++y)
        for (int64_t x = 0; x < n; ++x) {
            const uint8_t* const p = picture.at(y, x);
            const int r = p[0], g = p[picture.channel], b = p[2 * picture.channel];
            top.at(y, x) = std::max({r, g, b});
            grey.at(y, x) = (77 * r + 150 * g + 29 * b + 128) / 256;
            levels.at(y, x) = 16 * grey.at(y, x);
            const int64_t dx = 2 * x + 1 - n, dy = 2 * y + 1 - n;
            if (100 * (dx * dx + dy * dy) >= 81 * n * n) continue;
            ++sums.disc;
            sums.disc_top += top.at(y, x);
            lit.at(y, x) = top.at(y, x) > 10;
        }
    Plane inside(n);
    for (int64_t y = 4; y < n - 4; ++y)
        for (int64_t x = 4; x < n - 4; ++x) {
            bool all = true;
            for (int64_t i = y - 4; i <= y + 4; ++i)
                for (int64_t j = x - 4; j <= x + 4; ++j) all = all && lit.at(i, j);
            inside.at(y, x) = all;
        }
    Plane once = levels.blurred(5), twice = once.blurred(5);
    for (int64_t y = 0; y < n; ++y)
        for (int64_t x = 0; x < n; ++x) {
            if (!inside.at(y, x)) continue;
            const int64_t detail = once.at(y, x) - twice.at(y, x);
            ++sums.inside;
            sums.top += top.at(y, x);
            sums.grey += grey.at(y, x);
            sums.clipped += top.at(y, x) >= 250;
            sums.fine += detail;
            sums.fine_squares += detail * detail;
        }
    Plane two = twice.halved().blurred(3), four = two.blurred(5).blurred(5).blurred(5), sparse = inside.halved();
    std::fill_n(structure, (n / 4) * (n / 4), 0.0f);
    for (int64_t y = 0; y < n / 2; ++y)
        for (int64_t x = 0; x < n / 2; ++x) {
            if (!sparse.at(y, x)) continue;
            const int64_t detail = two.at(y, x) - four.at(y, x);
            ++sums.coarse_inside;
            sums.coarse += detail;
            sums.coarse_squares += detail * detail;
            structure[y / 2 * (n / 4) + x / 2] += static_cast<float>(detail);
        }
    return sums;
}

}  // namespace reference
