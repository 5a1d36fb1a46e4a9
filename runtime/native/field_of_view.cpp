// Find the field of view in a sparse sample of the frame. The method: `detect_fov` in medtex_edge/image/reference.py.
//
// Compiled without fused multiply-adds (see CMakeLists.txt): the box must come out equal on every machine.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "circle.hpp"
#include "geometry.hpp"
#include "samples.hpp"

namespace medtex {
namespace {

using std::int64_t;
using std::size_t;

constexpr int64_t kMinSide = 32, kMaxAspect = 8;
constexpr int kRays = 128, kMaxRaySamples = 256;

struct Scratch {
    Samples samples;
    Outline outline;
};

int64_t floor_div(int64_t a, int64_t b) {
    const int64_t q = a / b;
    return q * b > a ? q - 1 : q;
}

// One side of the body's outline: for each line across it its outermost pixel, found by bisection between a lit
// and a dark sample. Returns where the body ends on that side.
template <class Pixels>
int64_t add_side(const Pixels& pixels, const Samples& s, const Threshold& threshold, bool along_rows, int outwards,
                 Outline& outline) {
    const int lines = along_rows ? s.rows : s.columns, cells = along_rows ? s.columns : s.rows;
    const int64_t offset = s.step / 2, extent = along_rows ? pixels.frame.width : pixels.frame.height;
    const auto is_body = [&](int line, int cell) { return along_rows ? s.is_body(line, cell) : s.is_body(cell, line); };
    bool cut = false;
    int64_t end = outwards < 0 ? 2 * extent : 0;
    for (int i = 0; i < lines; ++i) {
        int cell = outwards < 0 ? 0 : cells - 1;
        while (cell >= 0 && cell < cells && !is_body(i, cell)) cell -= outwards;
        if (cell < 0 || cell >= cells) continue;
        if (cell == (outwards < 0 ? 0 : cells - 1)) {
            cut = true;
            continue;
        }
        const int64_t line = i * s.step + offset;
        int64_t lit = cell * s.step + offset, dark = lit + outwards * s.step;
        while (std::abs(dark - lit) > 1) {
            const int64_t middle = outwards > 0 ? (lit + dark) >> 1 : (lit + dark + 1) >> 1;
            const Colour pixel = along_rows ? pixels.at(line, middle) : pixels.at(middle, line);
            (level_of(pixel, threshold.border) >= threshold.least ? lit : dark) = middle;
        }
        const int64_t edge = outwards < 0 ? 2 * lit : 2 * lit + 2;
        end = outwards < 0 ? std::min(end, edge) : std::max(end, edge);
        outline.add(along_rows ? edge : 2 * line + 1, along_rows ? 2 * line + 1 : edge);
    }
    if (cut) return outwards < 0 ? 0 : extent;
    return end / 2;
}

struct Directions {
    std::array<int64_t, kRays> cos, sin;  // in 1 / 16384
    Directions() {
        for (size_t i = 0; i < kRays; ++i) {
            const double angle = (static_cast<double>(i) + 0.5) * (2 * 3.14159265358979323846 / kRays);
            cos[i] = std::llround(std::cos(angle) * 16384);
            sin[i] = std::llround(std::sin(angle) * 16384);
        }
    }
};

// Replaces the outline by where the light falls most steeply along each ray from the circle's centre.
template <class Pixels>
void steepest(const Pixels& pixels, const Circle& circle, const Threshold& threshold, Outline& outline) {
    static const Directions directions;
    const auto whole = [](double value) { return static_cast<int64_t>(std::floor(value)); };
    const int64_t x = whole(circle.x), y = whole(circle.y), radius = whole(circle.radius);
    const int64_t spacing = std::max<int64_t>(2, radius / 128);
    const int64_t count = (radius * 11 / 10 - radius * 3 / 4) / spacing;
    const int64_t window = std::clamp<int64_t>(count / 10, 1, 4);
    const int64_t least = window * std::max(6, threshold.contrast / 10);
    std::array<int64_t, kMaxRaySamples> levels, insides;
    outline.size = 0;
    for (size_t i = 0; i < kRays; ++i) {
        const int64_t start = radius * 3 / 4 + spacing * static_cast<int64_t>(i * 5 % 8) / 8;  // staggered
        const auto column = [&](int64_t rho) { return x + ((directions.cos[i] * rho) >> 14); };
        const auto row = [&](int64_t rho) { return y + ((directions.sin[i] * rho) >> 14); };
        levels[0] = insides[0] = 0;
        for (int64_t k = 0; k < count; ++k) {
            const int64_t rho = start + spacing * k, px = column(rho) >> 1, py = row(rho) >> 1;
            const bool inside = px >= 0 && px < pixels.frame.width && py >= 0 && py < pixels.frame.height;
            const size_t at = static_cast<size_t>(k);
            levels[at + 1] = levels[at] + (inside ? level_of(pixels.at(py, px), threshold.border) : 0);
            insides[at + 1] = insides[at] + inside;
        }
        int64_t best = 0, best_drop = -1;
        for (int64_t k = 0; k + 2 * window <= count; ++k) {
            const size_t before = static_cast<size_t>(k), here = static_cast<size_t>(k + window),
                         after = static_cast<size_t>(k + 2 * window);
            if (insides[after] - insides[before] != 2 * window) continue;
            const int64_t drop = 2 * levels[here] - levels[before] - levels[after];
            if (drop > best_drop) {
                best_drop = drop;
                best = k;
            }
        }
        if (best_drop < least) continue;
        const int64_t edge = start + spacing * (best + window) - spacing / 2;
        outline.add(column(edge), row(edge));
    }
}

// Counts the samples of the box's inscribed disc into detection.lit and detection.total; returns those in the frame.
int64_t cover(const Samples& s, FovDetection& detection) {
    const int64_t spacing = 2 * s.step, offset = 2 * (s.step / 2) + 1, side = detection.side;
    const int64_t x = 2 * detection.left + side, y = 2 * detection.top + side;
    const int64_t end = floor_div(y + side - offset, spacing) + 1;
    int64_t inside = 0;
    for (int64_t i = -floor_div(offset + side - y, spacing); i < end; ++i) {
        const int64_t dy = spacing * i + offset - y;
        const int64_t half = static_cast<int64_t>(std::sqrt(static_cast<double>(side * side - dy * dy)));
        const int64_t first = -floor_div(offset + half - x, spacing), last = floor_div(x + half - offset, spacing) + 1;
        detection.total += std::max<int64_t>(last - first, 0);
        if (i < 0 || i >= s.rows) continue;
        const int64_t j0 = std::clamp<int64_t>(first, 0, s.columns);
        const int64_t j1 = std::max(j0, std::clamp<int64_t>(last, 0, s.columns));
        inside += j1 - j0;
        for (int64_t j = j0; j < j1; ++j) detection.lit += s.is_lit(static_cast<int>(i), static_cast<int>(j));
    }
    return inside;
}

template <class Pixels>
FovDetection detect_in(const Pixels& pixels) {
    const Source& picture = pixels.frame;
    const int64_t shorter = std::min(picture.height, picture.width), longer = std::max(picture.height, picture.width);
    if (shorter < kMinSide) return refused(Status::tiny, shorter);
    if (longer > kMaxAspect * shorter) return refused(Status::strip, longer / shorter);
    thread_local const std::unique_ptr<Scratch> scratch = std::make_unique<Scratch>();
    Samples& samples = scratch->samples;
    Outline& outline = scratch->outline;
    Threshold threshold;
    samples.take(pixels);
    if (const auto refusal = samples.light(threshold)) return *refusal;
    const int64_t area = samples.body_area(), share = 100 * area / samples.cells();
    if (area * 40 < samples.cells()) return refused(Status::scattered, share);
    outline.height = picture.height;
    outline.width = picture.width;
    outline.size = 0;
    const int64_t x0 = add_side(pixels, samples, threshold, true, -1, outline);
    const int64_t x1 = add_side(pixels, samples, threshold, true, 1, outline);
    const int64_t y0 = add_side(pixels, samples, threshold, false, -1, outline);
    const int64_t y1 = add_side(pixels, samples, threshold, false, 1, outline);
    FovDetection result;
    if (auto circle = fit_circle(outline)) {
        steepest(pixels, *circle, threshold, outline);
        if (const auto finer = fit_circle(outline)) circle = finer;
        result.side = static_cast<int64_t>(std::floor(circle->radius + 0.5));
        const double side = static_cast<double>(result.side);
        result.left = static_cast<int64_t>(std::floor((circle->x - side) * 0.5 + 0.5));
        result.top = static_cast<int64_t>(std::floor((circle->y - side) * 0.5 + 0.5));
    } else {
        const int64_t across = x1 - x0, down = y1 - y0;
        if (area * samples.step * samples.step * 2 < across * down) return refused(Status::scattered, share);
        result.side = std::max(across, down);
        result.left = (x0 + x1 - result.side) >> 1;
        result.top = (y0 + y1 - result.side) >> 1;
    }
    const int64_t inside = cover(samples, result);
    if (result.lit * 3 < inside) return refused(Status::hollow, 100 * result.lit / std::max<int64_t>(inside, 1));
    return result;
}

}  // namespace

FovDetection detect_fov(const Source& frame) {
    switch (frame.layout) {
        case Layout::grey: return detect_in(Reader<Layout::grey>{frame});
        case Layout::yuyv: return detect_in(Reader<Layout::yuyv>{frame});
        case Layout::nv12: return detect_in(Reader<Layout::nv12>{frame});
        case Layout::rgb:
        case Layout::bgr: break;
    }
    return detect_in(Reader<Layout::rgb>{frame});
}

}  // namespace medtex
