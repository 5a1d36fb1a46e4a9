// Compiled without fused multiply-adds (see CMakeLists.txt): the circle must come out equal on every machine.
#include "circle.hpp"

#include <algorithm>
#include <cmath>

#include "clones.hpp"

namespace medtex {
namespace {

using std::int64_t;
using std::size_t;
using std::uint32_t;

constexpr int kTriples = 192, kMaxFew = 256;

// Here circles are relative to the frame's centre, like the outline.

// A part of the outline, evenly taken: enough to score a circle with.
struct Few {
    int size = 0;
    std::array<double, kMaxFew> x, y;

    explicit Few(const Outline& s) {
        const int stride = (s.size + kMaxFew - 1) / kMaxFew;
        for (int i = 0; i < s.size; i += stride, ++size) {
            x[static_cast<size_t>(size)] = static_cast<double>(s.x[static_cast<size_t>(i)]);
            y[static_cast<size_t>(size)] = static_cast<double>(s.y[static_cast<size_t>(i)]);
        }
    }
};

bool plausible(const Circle& c, const Outline& s) {
    const double height = static_cast<double>(s.height), width = static_cast<double>(s.width);
    return std::abs(c.x) <= width && std::abs(c.y) <= height && c.radius * 5 >= std::min(height, width) &&
           c.radius * 4 <= 5 * std::max(height, width);
}

struct Ring {
    double inner, outer;  // squared radii
    Ring(double radius, double tolerance) {
        const double i = std::max(radius - tolerance, 0.0), o = radius + tolerance;
        inner = i * i;
        outer = o * o;
    }
};

// How many points lie on the ring, less those beyond it.
MEDTEX_CLONES
int score(const double* __restrict x, const double* __restrict y, int64_t n, double cx, double cy, Ring ring) {
    int64_t on = 0, outside = 0;
    for (int64_t i = 0; i < n; ++i) {
        const double dx = x[i] - cx, dy = y[i] - cy, distance = dx * dx + dy * dy;
        outside += distance > ring.outer;
        on += (distance >= ring.inner) & (distance <= ring.outer);
    }
    return static_cast<int>(on - outside);
}

std::optional<Circle> best_triple(const Outline& s, const Few& few, double tolerance) {
    std::optional<Circle> best;
    int best_score = 0;
    uint32_t state = 1;  // Numerical Recipes' linear congruential generator
    const auto pick = [&] {
        state = state * 1664525u + 1013904223u;
        return static_cast<size_t>((state >> 8) % static_cast<uint32_t>(s.size));
    };
    for (int trial = 0; trial < kTriples; ++trial) {
        const size_t i = pick(), j = pick(), k = pick();
        const int64_t x0 = s.x[i], x1 = s.x[j], x2 = s.x[k], y0 = s.y[i], y1 = s.y[j], y2 = s.y[k];
        const int64_t z0 = x0 * x0 + y0 * y0, z1 = x1 * x1 + y1 * y1, z2 = x2 * x2 + y2 * y2;
        const int64_t area = 2 * (x0 * (y1 - y2) + x1 * (y2 - y0) + x2 * (y0 - y1));
        if (area == 0) continue;
        Circle c;
        c.x = static_cast<double>(z0 * (y1 - y2) + z1 * (y2 - y0) + z2 * (y0 - y1)) / static_cast<double>(area);
        c.y = static_cast<double>(z0 * (x2 - x1) + z1 * (x0 - x2) + z2 * (x1 - x0)) / static_cast<double>(area);
        const double rx = static_cast<double>(x0) - c.x, ry = static_cast<double>(y0) - c.y;
        c.radius = std::sqrt(rx * rx + ry * ry);
        if (!plausible(c, s)) continue;
        const int reached = score(few.x.data(), few.y.data(), few.size, c.x, c.y, Ring(c.radius, tolerance));
        if (!best || reached > best_score) {
            best = c;
            best_score = reached;
        }
    }
    return best;
}

// Kasa's circle through the points near `circle`: sums in exact integers, then doubles in the reference's order.
std::optional<Circle> least_squares(const Outline& s, const Circle& circle, double tolerance) {
    const Ring ring(circle.radius, tolerance);
    int64_t count = 0, sum_x = 0, sum_y = 0, sum_z = 0, sum_xx = 0, sum_xy = 0, sum_yy = 0, sum_zx = 0, sum_zy = 0;
    for (size_t i = 0; i < static_cast<size_t>(s.size); ++i) {
        const int64_t x = s.x[i], y = s.y[i], z = x * x + y * y;
        const double dx = static_cast<double>(x) - circle.x, dy = static_cast<double>(y) - circle.y;
        const double distance = dx * dx + dy * dy;
        if (!(distance >= ring.inner && distance <= ring.outer)) continue;
        ++count;
        sum_x += x, sum_y += y, sum_z += z;
        sum_xx += x * x, sum_xy += x * y, sum_yy += y * y;
        sum_zx += z * x, sum_zy += z * y;
    }
    const auto real = [](int64_t value) { return static_cast<double>(value); };
    const double n = real(count), sx = real(sum_x), sy = real(sum_y), sz = real(sum_z);
    const double p = n * real(sum_xx) - sx * sx, q = n * real(sum_xy) - sx * sy, r = n * real(sum_yy) - sy * sy;
    const double u = 0.5 * (n * real(sum_zx) - sz * sx), v = 0.5 * (n * real(sum_zy) - sz * sy);
    const double determinant = p * r - q * q;
    if (!(determinant > 0.0)) return std::nullopt;
    const double a = (u * r - q * v) / determinant, b = (p * v - q * u) / determinant;
    const double square = (sz - 2.0 * a * sx - 2.0 * b * sy) / n + a * a + b * b;
    if (!(square > 0.0)) return std::nullopt;
    return Circle{a, b, std::sqrt(square)};
}

bool lies_on(const Outline& s, const Circle& circle, double tolerance) {
    const Ring ring(circle.radius, tolerance);
    int on = 0, outside = 0, covered = 0;
    std::array<int, 8> octants{};
    for (size_t i = 0; i < static_cast<size_t>(s.size); ++i) {
        const double dx = static_cast<double>(s.x[i]) - circle.x, dy = static_cast<double>(s.y[i]) - circle.y;
        const double distance = dx * dx + dy * dy;
        outside += distance > ring.outer;
        if (!(distance >= ring.inner && distance <= ring.outer)) continue;
        ++on;
        ++octants[static_cast<size_t>((dx > 0) * 4 + (dy > 0) * 2 + (std::abs(dx) > std::abs(dy)))];
    }
    for (const int count : octants) covered += count >= 2;
    return on * 5 >= s.size * 2 && outside * 4 <= s.size && covered >= 3;
}

}  // namespace

std::optional<Circle> fit_circle(const Outline& outline) {
    if (outline.size < 16) return std::nullopt;
    const double tolerance = std::max(3.0, 0.015 * static_cast<double>(std::min(outline.height, outline.width)));
    std::optional<Circle> circle = best_triple(outline, Few(outline), tolerance);
    for (int round = 0; circle && round < 3; ++round) circle = least_squares(outline, *circle, tolerance);
    if (!circle || !plausible(*circle, outline) || !lies_on(outline, *circle, tolerance)) return std::nullopt;
    return Circle{circle->x + static_cast<double>(outline.width), circle->y + static_cast<double>(outline.height),
                  circle->radius};
}

}  // namespace medtex
