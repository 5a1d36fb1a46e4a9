// Saliency into a frame: dense, sparse, partly and wholly beyond it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kit.hpp"
#include "reference.hpp"

namespace {

using kit::Random;
using kit::Rgb;
using std::int64_t;
using std::size_t;
using std::uint8_t;

// A scale like the overlay's: nothing below level 26, then ever more of a colour.
std::vector<uint8_t> table() {
    std::vector<uint8_t> rows;
    for (int k = 0; k < medtex::Scale::kLevels; ++k) {
        const int alpha = k < 26 ? 0 : k * 80 / 255;  // of 128
        rows.push_back(static_cast<uint8_t>(128 - alpha));
        for (const int colour : {255, 3 * (255 - k) / 4, k / 2})
            rows.push_back(static_cast<uint8_t>(alpha * colour / 128));
    }
    return rows;
}

// A grid whose floats lie as loosely as numpy's may: transposed, backwards, with gaps.
class Map {
public:
    Map(Random& random, int64_t rows, int64_t columns, int percent) {
        const bool across = random.chance(30), backwards = random.chance(30);
        const int64_t step = random.between(1, 2), inner = across ? rows : columns, outer = across ? columns : rows;
        values_.assign(static_cast<size_t>(step * (inner * outer - 1) + 1), std::numeric_limits<float>::quiet_NaN());
        const std::ptrdiff_t sign = backwards ? -step : step;
        grid = {values_.data() + (backwards ? values_.size() - 1 : 0), rows, columns, across ? sign : sign * columns,
                across ? sign * rows : sign};
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < columns; ++c) at(r, c) = random.chance(percent) ? random.unit() : 0.0f;
    }
    Map(const Map&) = delete;

    float& at(int64_t r, int64_t c) { return const_cast<float&>(grid.data[r * grid.row + c * grid.column]); }

    medtex::Grid grid{};

private:
    std::vector<float> values_;
};

void compare(Random& random, int64_t height, int64_t width, const Map& map, int64_t left, int64_t top, int64_t side) {
    const std::vector<uint8_t> rows = table();
    Rgb drawn(random, height, width), expected = drawn;
    medtex::draw_saliency(drawn.target(), map.grid, left, top, side, medtex::Scale(rows.data()));
    reference::draw_saliency(expected.target(), map.grid, left, top, side, rows.data());
    CHECK(drawn.bytes() == expected.bytes(), "frame", height, "x", width, "grid", map.grid.rows, "x",
          map.grid.columns, "box", side, "at", left, top);
}

}  // namespace

TEST(dense_and_sparse_maps_are_drawn_as_defined) {
    Random random(21);
    for (int round = 0; round < 250; ++round) {
        const Map map(random, random.between(1, 12), random.between(1, 12),
                      std::array{0, 5, 40, 100}[static_cast<size_t>(round % 4)]);
        compare(random, random.between(1, 60), random.between(1, 60), map, random.between(-40, 60),
                random.between(-40, 60), random.between(1, 90));
    }
}

TEST(a_frame_is_drawn_by_several_threads_as_by_one) {
    Random random(22);
    for (const int percent : {3, 100}) {
        const Map map(random, 56, 56, percent);
        compare(random, 240, 320, map, 40, -20, 270);
    }
}

TEST(a_box_beyond_the_frame_changes_nothing) {
    Random random(23);
    const std::vector<uint8_t> rows = table();
    const Map map(random, 4, 4, 100);
    for (const int64_t left : {int64_t{-131072}, int64_t{-9}, int64_t{20}, int64_t{131072}}) {
        Rgb drawn(random, 20, 20);
        const Rgb before = drawn;
        medtex::draw_saliency(drawn.target(), map.grid, left, 3, 9, medtex::Scale(rows.data()));
        CHECK(drawn.bytes() == before.bytes(), "left", left);
    }
}

TEST(what_is_no_number_or_out_of_range_is_drawn_within_the_scale) {
    Random random(24);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    Map map(random, 5, 7, 100);
    const float odd[] = {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity, 3e38f, -1.0f, 1e-45f, 1.5f};
    for (int64_t c = 0; c < 7; ++c) map.at(2, c) = odd[c];
    for (int round = 0; round < 10; ++round) compare(random, 40, 50, map, random.between(-9, 9), -3, 45);
}

TEST(the_largest_grids_boxes_and_frames_are_drawn) {
    Random random(25);
    const int64_t most = medtex::kMaxGridSide;
    compare(random, 9, 11, Map(random, 2, most, 100), -3, -3, 20);
    compare(random, 11, 9, Map(random, most, 2, 30), -3, -3, 20);
    compare(random, 20, 30, Map(random, most, 3, 100), -60000, -70000, medtex::kMaxBoxSide);
    compare(random, 2, medtex::kMaxPictureSide, Map(random, 7, 5, 60), -1000, -30000, 70000);
    compare(random, medtex::kMaxPictureSide, 2, Map(random, 7, 5, 60), -30000, -1000, 70000);
}
