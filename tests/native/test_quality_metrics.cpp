// The quality metrics of a frame, in every layout and every memory order.
#include "quality_metrics.hpp"

#include <vector>

#include "kit.hpp"
#include "reference.hpp"

namespace {

using kit::Frame;
using kit::Random;
using kit::Rgb;
using medtex::Layout;
using std::int64_t;

bool alike(const medtex::QualityMetrics& a, const medtex::QualityMetrics& b) {
    return a.disc == b.disc && a.disc_top == b.disc_top && a.inside == b.inside && a.top == b.top &&
           a.grey == b.grey && a.clipped == b.clipped && a.fine == b.fine && a.fine_squares == b.fine_squares &&
           a.coarse_inside == b.coarse_inside && a.coarse == b.coarse && a.coarse_squares == b.coarse_squares;
}

void compare(Rgb& small) {
    const medtex::Target t = small.target();
    const medtex::Picture<const std::uint8_t> picture{t.data, t.height, t.width, t.row, t.column, t.channel};
    const std::size_t cells = static_cast<std::size_t>((small.width / 4) * (small.width / 4));
    std::vector<float> structure(cells, -1.0f), expected(cells);
    const medtex::QualityMetrics sums = medtex::quality_metrics(picture, structure.data());
    CHECK(alike(sums, reference::quality_metrics(picture, expected.data())), "side", small.width, "inside", sums.inside);
    CHECK(structure == expected, "side", small.width);
}

// Every pixel is `level` or, where `darker` is true, nearly black.
template <class Darker>
Rgb painted(Random& random, int64_t side, int level, const Darker& darker) {
    Rgb small(random, side, side);
    for (int64_t y = 0; y < side; ++y)
        for (int64_t x = 0; x < side; ++x)
            for (int64_t c = 0; c < 3; ++c)
                small.target().at(y, x)[c * small.target().channel] =
                    static_cast<std::uint8_t>(darker(y, x) ? 3 : level + random.between(-5, 5));
    return small;
}

}  // namespace

TEST(a_precheck_counts_and_sums_the_bytes_of_its_rows) {
    Random random(41);
    for (const Layout layout : kit::kLayouts) {
        for (int round = 0; round < 30; ++round) {
            const Frame frame(random, layout, 2 * random.between(1, 100), 2 * random.between(1, 60));
            const medtex::FramePrecheck precheck = medtex::precheck_frame(frame.source());
            const medtex::FramePrecheck expected = reference::precheck_frame(frame.source());
            CHECK(precheck.digest == expected.digest, "layout", static_cast<int>(layout), frame.height, "x",
                  frame.width);
            CHECK(precheck.lit == expected.lit && precheck.sampled == expected.sampled, "lit", precheck.lit, "of",
                  precheck.sampled);
        }
        const Frame longest(random, layout, 2, medtex::kMaxPictureSide - 1);
        CHECK(medtex::precheck_frame(longest.source()).digest == reference::precheck_frame(longest.source()).digest, "longest");
    }
}

TEST(one_changed_byte_changes_the_digest) {
    Random random(42);
    for (const Layout layout : kit::kLayouts) {
        Frame frame(random, layout, 32, 90);
        for (int round = 0; round < 20; ++round) {
            const int64_t y = random.between(0, 31), x = random.between(0, 89);
            frame.paint(y, x, 100);
            const medtex::FramePrecheck before = medtex::precheck_frame(frame.source());
            frame.paint(y, x, 101);
            CHECK(medtex::precheck_frame(frame.source()).digest != before.digest, "layout", static_cast<int>(layout), y, x);
        }
    }
}

TEST(metrics_of_noise_are_those_of_the_definition_at_every_size) {
    Random random(43);
    for (int64_t side = 16; side <= medtex::kMaxMetricsSide; side += side < 64 ? 4 : 64) {
        Rgb small(random, side, side);
        compare(small);
    }
}

TEST(metrics_of_a_part_of_a_disc_are_those_of_the_definition) {
    Random random(44);
    for (int round = 0; round < 8; ++round) {
        const int64_t cut = random.between(0, 100), hole = random.between(0, 99);
        Rgb small = painted(random, 100, 140, [&](int64_t y, int64_t x) { return x < cut / 2 || y == hole; });
        compare(small);
    }
}

TEST(metrics_of_the_strongest_contrasts_stay_within_their_integers) {
    Random random(45);
    for (const int64_t period : {1, 2, 3, 16, 64}) {
        Rgb small = painted(random, medtex::kMaxMetricsSide, 250, [&](int64_t, int64_t) { return false; });
        const medtex::Target t = small.target();
        for (int64_t y = 0; y < t.height; ++y)
            for (int64_t x = 0; x < t.width; ++x)
                for (int64_t c = 0; c < 3; ++c)
                    t.at(y, x)[c * t.channel] = (y / period + x / period) % 2 ? std::uint8_t{255} : std::uint8_t{11};
        compare(small);
    }
}
