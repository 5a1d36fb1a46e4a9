// Find the field of view in a sparse look at the frame. The method: `look` in medtex_edge/image_numpy.py.
//
// Compiled without fused multiply-adds (see CMakeLists.txt): the circle must come out equal on every machine.
#include "geometry.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>

namespace medtex {
namespace {

using std::int64_t;
using std::size_t;
using std::uint32_t;
using std::uint8_t;

constexpr int kGrid = 256, kCells = kGrid * kGrid;
constexpr int64_t kMinSide = 32, kMaxAspect = 8;
constexpr int kBorderMax = 80, kTriples = 192;
constexpr int kRays = 128, kMaxRaySamples = 256;
constexpr int kMaxPoints = 4 * kGrid, kMaxFew = 256;
constexpr int kMaxCorner = 16 * 17 / 2;  // samples of a corner's triangle

using Colour = std::array<int, 3>;
using Histogram = std::array<int, 256>;

struct Run {
    int row, start, end, parent, area;
};

struct Scratch {
    int rows = 0, columns = 0;
    int64_t step = 1;
    std::array<uint8_t, 3 * kCells> samples;
    std::array<uint8_t, kCells> level, lit, body;
    std::array<Run, kGrid * kGrid / 2> runs;
    std::array<int64_t, kMaxPoints> x, y;  // the outline, doubled pixels from the frame's centre
    std::array<double, kMaxFew> few_x, few_y;
    int points = 0;

    int cells() const { return rows * columns; }
    const uint8_t* sample(int row, int column) const { return &samples[3 * static_cast<size_t>(row * columns + column)]; }
};

struct Threshold {
    Colour border{0, 0, 0};
    int least = 1;       // level above the border that counts as lit
    int contrast = 255;  // level of the bright part
};

struct Circle {
    double x, y, radius;  // doubled pixels
};

int64_t floor_div(int64_t a, int64_t b) {
    const int64_t q = a / b;
    return q * b > a ? q - 1 : q;
}

template <class Pixel>
int level_of(const Pixel* pixel, std::ptrdiff_t channel, const Colour& border) {
    return std::max({pixel[0] - border[0], pixel[channel] - border[1], pixel[2 * channel] - border[2], 0});
}

int percentile(const Histogram& histogram, int64_t count, int64_t percent) {
    int64_t reached = 0;
    for (int level = 0; level < 256; ++level) {
        reached += histogram[static_cast<size_t>(level)];
        if (reached * 100 >= count * percent) return level;
    }
    return 255;
}

void take_samples(const Source& picture, Scratch& s) {
    const int64_t offset = s.step / 2;
    s.rows = static_cast<int>((picture.height - offset + s.step - 1) / s.step);
    s.columns = static_cast<int>((picture.width - offset + s.step - 1) / s.step);
    uint8_t* to = s.samples.data();
    for (int i = 0; i < s.rows; ++i) {
        const uint8_t* from = picture.at(offset + i * s.step, offset);
        for (int j = 0; j < s.columns; ++j, to += 3, from += s.step * picture.column) {
            to[0] = from[0];
            to[1] = from[picture.channel];
            to[2] = from[2 * picture.channel];
        }
    }
}

// level[...] of every sample above `border`, and their histogram.
Histogram measure(Scratch& s, const Colour& border) {
    Histogram histogram{};
    for (int i = 0; i < s.cells(); ++i) {
        const int level = level_of(&s.samples[3 * static_cast<size_t>(i)], 1, border);
        s.level[static_cast<size_t>(i)] = static_cast<uint8_t>(level);
        ++histogram[static_cast<size_t>(level)];
    }
    return histogram;
}

std::optional<Look> refuse(const Scratch& s, const Histogram& histogram, int median) {
    const auto because = [](Status status, int64_t figure) {
        Look look;
        look.status = status;
        look.figure = figure;
        return look;
    };
    const int64_t count = s.cells();
    const int low = percentile(histogram, count, 3), high = percentile(histogram, count, 97);
    if (high < 24) return because(Status::black, high);
    if (percentile(histogram, count, 10) >= 245) return because(Status::white, median);
    if (high - low < 10) return because(Status::even, median);
    int64_t sum = 0, steps = 0, spread = 0;
    for (int level = 0; level < 256; ++level) sum += int64_t{level} * histogram[static_cast<size_t>(level)];
    const int64_t mean = sum / count;
    for (int level = 0; level < 256; ++level) spread += std::abs(level - mean) * histogram[static_cast<size_t>(level)];
    const uint8_t* level = s.level.data();
    for (int i = 0; i < s.rows; ++i, level += s.columns) {
        for (int j = 0; j + 1 < s.columns; ++j) steps += std::abs(level[j + 1] - level[j]);
        for (int j = 0; i + 1 < s.rows && j < s.columns; ++j) steps += std::abs(level[j + s.columns] - level[j]);
    }
    const int64_t pairs = int64_t{s.rows - 1} * s.columns + int64_t{s.rows} * (s.columns - 1);
    if (steps * count * 100 > spread * pairs * 80)
        return because(Status::noise, 100 * steps * count / std::max<int64_t>(spread * pairs, 1));
    return std::nullopt;
}

// The darkest corner's colour, and how far above it lit begins.
Threshold find_threshold(Scratch& s) {
    const int leg = std::max(3, std::min(s.rows, s.columns) / 16);
    std::array<const uint8_t*, kMaxCorner> corner{}, darkest{};
    std::array<int, kMaxCorner> values{};
    size_t n = 0;
    const auto ranked = [&](size_t rank, const auto& value) {
        for (size_t i = 0; i < n; ++i) values[i] = value(darkest[i]);
        std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank),
                         values.begin() + static_cast<std::ptrdiff_t>(n));
        return values[rank];
    };
    std::array<const uint8_t*, kMaxCorner> best{};
    int best_median = 256;
    for (int which = 0; which < 4; ++which) {
        n = 0;
        for (int i = 0; i < leg; ++i)
            for (int j = 0; i + j < leg; ++j)
                corner[n++] = s.sample(which & 2 ? s.rows - 1 - i : i, which & 1 ? s.columns - 1 - j : j);
        darkest = corner;
        const int median = ranked(n / 2, [](const uint8_t* p) { return std::max({p[0], p[1], p[2]}); });
        if (median < best_median) {
            best_median = median;
            best = corner;
        }
    }
    darkest = best;
    Threshold threshold;
    Colour border;
    for (size_t c = 0; c < 3; ++c) border[c] = ranked(n / 2, [c](const uint8_t* p) { return int{p[c]}; });
    if (*std::max_element(border.begin(), border.end()) > kBorderMax) return threshold;
    threshold.border = border;
    const int noise = ranked(n * 3 / 4, [&](const uint8_t* p) { return level_of(p, 1, border); });
    threshold.contrast = percentile(measure(s, border), s.cells(), 97);
    threshold.least = std::max({10, threshold.contrast * 12 / 100, std::min(3 * noise, threshold.contrast / 2)});
    return threshold;
}

// lit = the 3 x 3 majority of level >= least, edges repeated.
void vote(Scratch& s, int least) {
    const int last_row = s.rows - 1, last_column = s.columns - 1;
    std::array<uint8_t, kGrid> above{};
    for (int i = 0; i < s.rows; ++i) {
        const uint8_t* rows[3];
        for (int k = 0; k < 3; ++k) rows[k] = &s.level[static_cast<size_t>(std::clamp(i + k - 1, 0, last_row) * s.columns)];
        for (int j = 0; j < s.columns; ++j)
            above[static_cast<size_t>(j)] =
                static_cast<uint8_t>((rows[0][j] >= least) + (rows[1][j] >= least) + (rows[2][j] >= least));
        for (int j = 0; j < s.columns; ++j) {
            const int votes = above[static_cast<size_t>(std::max(j - 1, 0))] + above[static_cast<size_t>(j)] +
                              above[static_cast<size_t>(std::min(j + 1, last_column))];
            s.lit[static_cast<size_t>(i * s.columns + j)] = votes >= 5;
        }
    }
}

int root_of(Scratch& s, int run) {
    auto& runs = s.runs;
    while (runs[static_cast<size_t>(run)].parent != run) {
        auto& parent = runs[static_cast<size_t>(run)].parent;
        parent = runs[static_cast<size_t>(parent)].parent;
        run = parent;
    }
    return run;
}

// body = the largest 4-connected part of lit; returns its number of samples.
int64_t largest_component(Scratch& s) {
    int count = 0, above = 0;
    for (int i = 0; i < s.rows; ++i) {
        const uint8_t* lit = &s.lit[static_cast<size_t>(i * s.columns)];
        for (int j = 0; j < s.columns;) {
            if (!lit[j]) {
                ++j;
                continue;
            }
            const int start = j;
            while (j < s.columns && lit[j]) ++j;
            Run& run = s.runs[static_cast<size_t>(count)];
            run = {i, start, j, count, 0};
            const auto at = [&](int k) -> const Run& { return s.runs[static_cast<size_t>(k)]; };
            while (above < count && (at(above).row < i - 1 || (at(above).row == i - 1 && at(above).end <= start))) ++above;
            for (int k = above; k < count && at(k).row == i - 1 && at(k).start < j; ++k) {
                const int a = root_of(s, k), b = root_of(s, count);
                s.runs[static_cast<size_t>(std::max(a, b))].parent = std::min(a, b);
            }
            ++count;
        }
    }
    std::fill_n(s.body.begin(), s.cells(), uint8_t{0});
    if (count == 0) return 0;
    int largest = 0;
    for (int k = 0; k < count; ++k) {
        const Run& run = s.runs[static_cast<size_t>(k)];
        s.runs[static_cast<size_t>(root_of(s, k))].area += run.end - run.start;
    }
    for (int k = 1; k < count; ++k)
        if (s.runs[static_cast<size_t>(k)].area > s.runs[static_cast<size_t>(largest)].area) largest = k;
    for (int k = 0; k < count; ++k) {
        const Run& run = s.runs[static_cast<size_t>(k)];
        if (root_of(s, k) == largest)
            std::fill(&s.body[static_cast<size_t>(run.row * s.columns)] + run.start,
                      &s.body[static_cast<size_t>(run.row * s.columns)] + run.end, uint8_t{1});
    }
    return s.runs[static_cast<size_t>(largest)].area;
}

struct Bounds {
    int64_t x0, x1, y0, y1;
};

// One side of the outline: for each line across the body its outermost pixel, found by bisection between a lit
// and a dark sample. Returns where the body ends on that side.
int64_t outline(const Source& picture, Scratch& s, const Threshold& threshold, bool along_rows, int outwards) {
    const int lines = along_rows ? s.rows : s.columns, cells = along_rows ? s.columns : s.rows;
    const int64_t offset = s.step / 2, extent = along_rows ? picture.width : picture.height;
    const int64_t centre_x = picture.width, centre_y = picture.height;
    const auto is_body = [&](int line, int cell) {
        return s.body[static_cast<size_t>(along_rows ? line * s.columns + cell : cell * s.columns + line)] != 0;
    };
    bool cut = false;
    int64_t end = outwards < 0 ? 2 * extent : 0;
    for (int i = 0; i < lines; ++i) {
        int cell = outwards < 0 ? 0 : cells - 1;
        while (cell >= 0 && cell < cells && !is_body(i, cell)) cell -= outwards;
        if (cell < 0 || cell >= cells) continue;
        if (outwards < 0 ? cell == 0 : cell == cells - 1) {
            cut = true;
            continue;
        }
        const int64_t line = i * s.step + offset;
        int64_t lit = cell * s.step + offset, dark = lit + outwards * s.step;
        while (std::abs(dark - lit) > 1) {
            const int64_t middle = outwards > 0 ? (lit + dark) >> 1 : (lit + dark + 1) >> 1;
            const uint8_t* pixel = along_rows ? picture.at(line, middle) : picture.at(middle, line);
            (level_of(pixel, picture.channel, threshold.border) >= threshold.least ? lit : dark) = middle;
        }
        const int64_t edge = outwards < 0 ? 2 * lit : 2 * lit + 2;
        end = outwards < 0 ? std::min(end, edge) : std::max(end, edge);
        s.x[static_cast<size_t>(s.points)] = (along_rows ? edge : 2 * line + 1) - centre_x;
        s.y[static_cast<size_t>(s.points)] = (along_rows ? 2 * line + 1 : edge) - centre_y;
        ++s.points;
    }
    if (cut) return outwards < 0 ? 0 : extent;
    return end / 2;
}

bool plausible(const Circle& c, int64_t height, int64_t width) {
    const double shorter = static_cast<double>(std::min(height, width)), longer = static_cast<double>(std::max(height, width));
    return std::abs(c.x) <= static_cast<double>(width) && std::abs(c.y) <= static_cast<double>(height) &&
           c.radius * 5 >= shorter && c.radius * 4 <= 5 * longer;
}

struct Ring {
    double inner, outer;  // squared radii
    Ring(double radius, double tolerance) {
        const double i = std::max(radius - tolerance, 0.0), o = radius + tolerance;
        inner = i * i;
        outer = o * o;
    }
};

std::optional<Circle> best_triple(const Scratch& s, int few, double tolerance, int64_t height, int64_t width) {
    std::optional<Circle> best;
    int best_score = 0;
    uint32_t state = 1;  // Numerical Recipes' linear congruential generator
    const auto pick = [&] {
        state = state * 1664525u + 1013904223u;
        return static_cast<size_t>((state >> 8) % static_cast<uint32_t>(s.points));
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
        if (!plausible(c, height, width)) continue;
        const Ring ring(c.radius, tolerance);
        int on = 0, outside = 0;
        for (int p = 0; p < few; ++p) {
            const double dx = s.few_x[static_cast<size_t>(p)] - c.x, dy = s.few_y[static_cast<size_t>(p)] - c.y;
            const double distance = dx * dx + dy * dy;
            outside += distance > ring.outer;
            on += (distance >= ring.inner) & (distance <= ring.outer);
        }
        if (!best || on - outside > best_score) {
            best = c;
            best_score = on - outside;
        }
    }
    return best;
}

// Kasa's circle through the points near `circle`: sums in exact integers, then doubles in the reference's order.
std::optional<Circle> least_squares(const Scratch& s, const Circle& circle, double tolerance) {
    const Ring ring(circle.radius, tolerance);
    int64_t count = 0, sum_x = 0, sum_y = 0, sum_z = 0, sum_xx = 0, sum_xy = 0, sum_yy = 0, sum_zx = 0, sum_zy = 0;
    for (size_t i = 0; i < static_cast<size_t>(s.points); ++i) {
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

bool lies_on(const Scratch& s, const Circle& circle, double tolerance) {
    const Ring ring(circle.radius, tolerance);
    int on = 0, outside = 0, seen = 0;
    std::array<int, 8> octants{};
    for (size_t i = 0; i < static_cast<size_t>(s.points); ++i) {
        const double dx = static_cast<double>(s.x[i]) - circle.x, dy = static_cast<double>(s.y[i]) - circle.y;
        const double distance = dx * dx + dy * dy;
        outside += distance > ring.outer;
        if (!(distance >= ring.inner && distance <= ring.outer)) continue;
        ++on;
        ++octants[static_cast<size_t>((dx > 0) * 4 + (dy > 0) * 2 + (std::abs(dx) > std::abs(dy)))];
    }
    for (const int count : octants) seen += count >= 2;
    return on * 5 >= s.points * 2 && outside * 4 <= s.points && seen >= 3;
}

std::optional<Circle> fit_circle(Scratch& s, int64_t height, int64_t width) {
    if (s.points < 16) return std::nullopt;
    const double tolerance = std::max(3.0, 0.015 * static_cast<double>(std::min(height, width)));
    const int stride = (s.points + kMaxFew - 1) / kMaxFew;
    int few = 0;
    for (int i = 0; i < s.points; i += stride, ++few) {
        s.few_x[static_cast<size_t>(few)] = static_cast<double>(s.x[static_cast<size_t>(i)]);
        s.few_y[static_cast<size_t>(few)] = static_cast<double>(s.y[static_cast<size_t>(i)]);
    }
    std::optional<Circle> circle = best_triple(s, few, tolerance, height, width);
    for (int round = 0; circle && round < 3; ++round) circle = least_squares(s, *circle, tolerance);
    if (!circle || !plausible(*circle, height, width) || !lies_on(s, *circle, tolerance)) return std::nullopt;
    return Circle{circle->x + static_cast<double>(width), circle->y + static_cast<double>(height), circle->radius};
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
void steepest(const Source& picture, Scratch& s, const Circle& circle, const Threshold& threshold) {
    static const Directions directions;
    const auto whole = [](double value) { return static_cast<int64_t>(std::floor(value)); };
    const int64_t x = whole(circle.x), y = whole(circle.y), radius = whole(circle.radius);
    const int64_t spacing = std::max<int64_t>(2, radius / 128);
    const int64_t count = (radius * 11 / 10 - radius * 3 / 4) / spacing;
    const int64_t window = std::clamp<int64_t>(count / 10, 1, 4);
    const int64_t least = window * std::max(6, threshold.contrast / 10);
    std::array<int64_t, kMaxRaySamples> levels, insides;
    s.points = 0;
    for (size_t i = 0; i < kRays; ++i) {
        const int64_t start = radius * 3 / 4 + spacing * static_cast<int64_t>(i * 5 % 8) / 8;  // staggered
        const auto column = [&](int64_t rho) { return x + ((directions.cos[i] * rho) >> 14); };
        const auto row = [&](int64_t rho) { return y + ((directions.sin[i] * rho) >> 14); };
        levels[0] = insides[0] = 0;
        for (int64_t k = 0; k < count; ++k) {
            const int64_t rho = start + spacing * k, px = column(rho) >> 1, py = row(rho) >> 1;
            const bool inside = px >= 0 && px < picture.width && py >= 0 && py < picture.height;
            const size_t at = static_cast<size_t>(k);
            levels[at + 1] = levels[at] + (inside ? level_of(picture.at(py, px), picture.channel, threshold.border) : 0);
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
        s.x[static_cast<size_t>(s.points)] = column(edge) - picture.width;
        s.y[static_cast<size_t>(s.points)] = row(edge) - picture.height;
        ++s.points;
    }
}

// Counts the samples of the box's inscribed disc into look.lit and look.total; returns those in the frame.
int64_t cover(const Scratch& s, Look& look) {
    const int64_t spacing = 2 * s.step, offset = 2 * (s.step / 2) + 1, side = look.side;
    const int64_t x = 2 * look.left + side, y = 2 * look.top + side;
    const int64_t end = floor_div(y + side - offset, spacing) + 1;
    int64_t inside = 0;
    for (int64_t i = -floor_div(offset + side - y, spacing); i < end; ++i) {
        const int64_t dy = spacing * i + offset - y;
        const int64_t half = static_cast<int64_t>(std::sqrt(static_cast<double>(side * side - dy * dy)));
        const int64_t first = -floor_div(offset + half - x, spacing), last = floor_div(x + half - offset, spacing) + 1;
        look.total += std::max<int64_t>(last - first, 0);
        if (i < 0 || i >= s.rows) continue;
        const int64_t j0 = std::clamp<int64_t>(first, 0, s.columns);
        const int64_t j1 = std::max(j0, std::clamp<int64_t>(last, 0, s.columns));
        inside += j1 - j0;
        const uint8_t* lit = &s.lit[static_cast<size_t>(i * s.columns)];
        for (int64_t j = j0; j < j1; ++j) look.lit += lit[j];
    }
    return inside;
}

Look because(Status status, int64_t figure) {
    Look look;
    look.status = status;
    look.figure = figure;
    return look;
}

}  // namespace

Look look(const Source& picture) {
    const int64_t height = picture.height, width = picture.width;
    const int64_t shorter = std::min(height, width), longer = std::max(height, width);
    if (shorter < kMinSide) return because(Status::tiny, shorter);
    if (longer > kMaxAspect * shorter) return because(Status::strip, longer / shorter);
    thread_local const std::unique_ptr<Scratch> scratch = std::make_unique<Scratch>();
    Scratch& s = *scratch;
    s.step = (longer + kGrid - 1) / kGrid;
    s.points = 0;
    take_samples(picture, s);
    const Histogram brightest = measure(s, Colour{0, 0, 0});
    const int median = percentile(brightest, s.cells(), 50);
    if (const auto refusal = refuse(s, brightest, median)) return *refusal;
    Threshold threshold = find_threshold(s);
    if (threshold.contrast < 20) {
        if (median < 40) return because(Status::faint, threshold.contrast);
        threshold = Threshold{};
        measure(s, threshold.border);
    }
    vote(s, threshold.least);
    const int64_t area = largest_component(s);
    const int64_t share = 100 * area / s.cells();
    if (area * 40 < s.cells()) return because(Status::scattered, share);
    Bounds box;
    box.x0 = outline(picture, s, threshold, true, -1);
    box.x1 = outline(picture, s, threshold, true, 1);
    box.y0 = outline(picture, s, threshold, false, -1);
    box.y1 = outline(picture, s, threshold, false, 1);
    Look result;
    if (auto circle = fit_circle(s, height, width)) {
        steepest(picture, s, *circle, threshold);
        if (const auto finer = fit_circle(s, height, width)) circle = finer;
        result.side = static_cast<int64_t>(std::floor(circle->radius + 0.5));
        const double side = static_cast<double>(result.side);
        result.left = static_cast<int64_t>(std::floor((circle->x - side) * 0.5 + 0.5));
        result.top = static_cast<int64_t>(std::floor((circle->y - side) * 0.5 + 0.5));
    } else {
        const int64_t across = box.x1 - box.x0, down = box.y1 - box.y0;
        if (area * s.step * s.step * 2 < across * down) return because(Status::scattered, share);
        result.side = std::max(across, down);
        result.left = (box.x0 + box.x1 - result.side) >> 1;
        result.top = (box.y0 + box.y1 - result.side) >> 1;
    }
    const int64_t inside = cover(s, result);
    if (result.lit * 3 < inside) return because(Status::hollow, 100 * result.lit / std::max<int64_t>(inside, 1));
    return result;
}

}  // namespace medtex
