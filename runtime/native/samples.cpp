#include "samples.hpp"

#include <cmath>
#include <cstdlib>

#include "clones.hpp"

namespace medtex {
namespace {

using std::int64_t;
using std::size_t;
using std::uint8_t;

constexpr int kBorderMax = 80;
constexpr int kMaxCorner = 16 * 17 / 2;  // samples of a corner's triangle

int percentile(const std::array<int, 256>& histogram, int64_t count, int64_t percent) {
    int64_t reached = 0;
    for (int level = 0; level < 256; ++level) {
        reached += histogram[static_cast<size_t>(level)];
        if (reached * 100 >= count * percent) return level;
    }
    return 255;
}

// The samples of a triangle in one corner of the frame.
struct Corner {
    std::array<Colour, kMaxCorner> samples{};
    size_t size = 0;

    template <class Value>
    int ranked(size_t rank, const Value& value) const {
        std::array<int, kMaxCorner> values{};
        for (size_t i = 0; i < size; ++i) values[i] = value(samples[i]);
        const auto begin = values.begin(), nth = begin + static_cast<std::ptrdiff_t>(rank);
        std::nth_element(begin, nth, begin + static_cast<std::ptrdiff_t>(size));
        return *nth;
    }
};

// `level_of` of many samples.
MEDTEX_CLONES
void levels_of(const uint8_t* __restrict r, const uint8_t* __restrict g, const uint8_t* __restrict b,
               uint8_t border_r, uint8_t border_g, uint8_t border_b, uint8_t* __restrict level, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        const uint8_t above_r = static_cast<uint8_t>(std::max(r[i], border_r) - border_r);
        const uint8_t above_g = static_cast<uint8_t>(std::max(g[i], border_g) - border_g);
        const uint8_t above_b = static_cast<uint8_t>(std::max(b[i], border_b) - border_b);
        level[i] = std::max(std::max(above_r, above_g), above_b);
    }
}

MEDTEX_CLONES
int sum_of_steps(const uint8_t* __restrict a, const uint8_t* __restrict b, size_t n) {
    int sum = 0;
    for (size_t i = 0; i < n; ++i) sum += std::abs(a[i] - b[i]);
    return sum;
}

MEDTEX_CLONES
void vote_of(const uint8_t* __restrict above, const uint8_t* __restrict here, const uint8_t* __restrict below,
             uint8_t least, uint8_t* __restrict votes, size_t n) {
    for (size_t i = 0; i < n; ++i)
        votes[i] = static_cast<uint8_t>((above[i] >= least) + (here[i] >= least) + (below[i] >= least));
}

// `votes` begins one before the row and ends one behind it.
MEDTEX_CLONES
void majority_of(const uint8_t* __restrict votes, uint8_t* __restrict lit, size_t n) {
    for (size_t i = 0; i < n; ++i)
        lit[i] = static_cast<uint8_t>(static_cast<uint8_t>(votes[i] + votes[i + 1] + votes[i + 2]) >= 5);
}

}  // namespace

std::optional<FovDetection> Samples::light(Threshold& threshold) {
    const Histogram brightest = measure(Colour{0, 0, 0});
    const int median = percentile(brightest, cells(), 50);
    if (const auto refusal = refuse(brightest, median)) return refusal;
    threshold = find_threshold();
    if (threshold.contrast < 20) {
        // Nothing stands out of the border: a photograph cropped to the retina, or nearly nothing at all.
        if (median < 40) return refused(Status::faint, threshold.contrast);
        threshold.border = Colour{0, 0, 0};
        threshold.least = 1;
        measure(threshold.border);
    }
    vote(threshold.least);
    find_body();
    return std::nullopt;
}

// level_[...] of every sample above `border`, and their histogram.
Samples::Histogram Samples::measure(const Colour& border) {
    const auto byte = [&](size_t c) { return static_cast<uint8_t>(border[c]); };
    const size_t n = static_cast<size_t>(cells());
    levels_of(planes_[0].data(), planes_[1].data(), planes_[2].data(), byte(0), byte(1), byte(2), level_.data(), n);
    // Neighbours are often alike: in turns, one count does not wait for the one before to be written.
    std::array<Histogram, 4> parts{};
    for (size_t i = 0; i < n; ++i) ++parts[i % 4][level_[i]];
    Histogram histogram{};
    for (const Histogram& part : parts)
        for (size_t level = 0; level < 256; ++level) histogram[level] += part[level];
    return histogram;
}

std::optional<FovDetection> Samples::refuse(const Histogram& histogram, int median) const {
    const int64_t count = cells();
    const int low = percentile(histogram, count, 3), high = percentile(histogram, count, 97);
    if (high < 24) return refused(Status::black, high);
    if (percentile(histogram, count, 10) >= 245) return refused(Status::white, median);
    if (high - low < 10) return refused(Status::even, median);
    int64_t sum = 0, steps = 0, spread = 0;
    for (int level = 0; level < 256; ++level) sum += int64_t{level} * histogram[static_cast<size_t>(level)];
    const int64_t mean = sum / count;
    for (int level = 0; level < 256; ++level) spread += std::abs(level - mean) * histogram[static_cast<size_t>(level)];
    const uint8_t* level = level_.data();
    const size_t n = static_cast<size_t>(columns);
    for (int i = 0; i < rows; ++i, level += columns) {
        steps += sum_of_steps(level + 1, level, n - 1);
        if (i + 1 < rows) steps += sum_of_steps(level + columns, level, n);
    }
    const int64_t pairs = int64_t{rows - 1} * columns + int64_t{rows} * (columns - 1);
    if (steps * count * 100 > spread * pairs * 80)
        return refused(Status::noise, 100 * steps * count / std::max<int64_t>(spread * pairs, 1));
    return std::nullopt;
}

// The darkest corner's colour, and how far above it lit begins. Leaves level_ above that colour.
Threshold Samples::find_threshold() {
    const int leg = std::max(3, std::min(rows, columns) / 16);
    Corner darkest;
    int least = 256;
    for (int which = 0; which < 4; ++which) {
        Corner corner;
        for (int i = 0; i < leg; ++i)
            for (int j = 0; i + j < leg; ++j)
                corner.samples[corner.size++] =
                    sample(at(which & 2 ? rows - 1 - i : i, which & 1 ? columns - 1 - j : j));
        const int median = corner.ranked(corner.size / 2, [](const Colour& p) { return std::max({p[0], p[1], p[2]}); });
        if (median < least) {
            least = median;
            darkest = corner;
        }
    }
    Threshold threshold;
    Colour border;
    for (size_t c = 0; c < 3; ++c) border[c] = darkest.ranked(darkest.size / 2, [c](const Colour& p) { return p[c]; });
    if (*std::max_element(border.begin(), border.end()) > kBorderMax) return threshold;
    threshold.border = border;
    const int noise = darkest.ranked(darkest.size * 3 / 4, [&](const Colour& p) { return level_of(p, border); });
    threshold.contrast = percentile(measure(border), cells(), 97);
    threshold.least = std::max({10, threshold.contrast * 12 / 100, std::min(3 * noise, threshold.contrast / 2)});
    return threshold;
}

// lit_ = the 3 x 3 majority of level_ >= least, edges repeated.
void Samples::vote(int least) {
    std::array<uint8_t, kGrid + 2> votes{};
    const size_t n = static_cast<size_t>(columns);
    for (int i = 0; i < rows; ++i) {
        const auto row = [&](int k) { return &level_[at(std::clamp(k, 0, rows - 1), 0)]; };
        vote_of(row(i - 1), row(i), row(i + 1), static_cast<uint8_t>(least), votes.data() + 1, n);
        votes[0] = votes[1];
        votes[n + 1] = votes[n];
        majority_of(votes.data(), &lit_[at(i, 0)], n);
    }
}

int Samples::root_of(int run) {
    const auto parent = [&](int k) -> int& { return runs_[static_cast<size_t>(k)].parent; };
    while (parent(run) != run) {
        parent(run) = parent(parent(run));
        run = parent(run);
    }
    return run;
}

// body_ = the largest 4-connected part of lit_, by union of the runs of each row.
void Samples::find_body() {
    const auto run_at = [&](int k) -> Run& { return runs_[static_cast<size_t>(k)]; };
    int count = 0, above = 0;
    for (int i = 0; i < rows; ++i) {
        const uint8_t* lit = &lit_[at(i, 0)];
        for (int j = 0; j < columns;) {
            if (!lit[j]) {
                ++j;
                continue;
            }
            const int start = j;
            while (j < columns && lit[j]) ++j;
            run_at(count) = {i, start, j, count, 0};
            while (above < count && (run_at(above).row < i - 1 || (run_at(above).row == i - 1 && run_at(above).end <= start)))
                ++above;
            for (int k = above; k < count && run_at(k).row == i - 1 && run_at(k).start < j; ++k) {
                const int a = root_of(k), b = root_of(count);
                run_at(std::max(a, b)).parent = std::min(a, b);
            }
            ++count;
        }
    }
    std::fill_n(body_.begin(), cells(), uint8_t{0});
    body_area_ = 0;
    int largest = 0;
    for (int k = 0; k < count; ++k) run_at(root_of(k)).area += run_at(k).end - run_at(k).start;
    for (int k = 1; k < count; ++k)
        if (run_at(k).area > run_at(largest).area) largest = k;
    for (int k = 0; k < count; ++k) {
        if (root_of(k) != largest) continue;
        const Run& run = run_at(k);
        std::fill_n(&body_[at(run.row, run.start)], run.end - run.start, uint8_t{1});
        body_area_ += run.end - run.start;
    }
}

}  // namespace medtex
