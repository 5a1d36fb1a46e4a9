// Crop and resize, in every layout and however the bytes lie.
#include <vector>

#include "kit.hpp"
#include "reference.hpp"

namespace {

using kit::Frame;
using kit::Random;
using kit::Rgb;
using medtex::Layout;
using std::int64_t;

bool is_paired(Layout layout) { return layout == Layout::yuyv || layout == Layout::nv12; }

void compare(Random& random, Layout layout, int64_t height, int64_t width, int64_t left, int64_t top, int64_t side,
             int64_t rows, int64_t columns) {
    const Frame frame(random, layout, height, width);
    Rgb drawn(random, rows, columns), expected = drawn;
    medtex::crop_resize(frame.source(), left, top, side, drawn.target());
    reference::crop_resize(frame.source(), left, top, side, expected.target());
    CHECK(drawn.bytes() == expected.bytes(), "layout", static_cast<int>(layout), "frame", height, "x", width, "box",
          side, "at", left, top, "to", rows, "x", columns);
}

}  // namespace

TEST(every_layout_is_resized_as_defined) {
    Random random(1);
    for (const Layout layout : kit::kLayouts)
        for (int round = 0; round < 60; ++round) {
            const int64_t unit = is_paired(layout) ? 2 : 1, side = random.between(1, 70);
            compare(random, layout, unit * random.between(1, 40 / unit), unit * random.between(1, 40 / unit),
                    random.between(-30, 40), random.between(-30, 40), side, random.between(1, 30),
                    random.between(1, 30));
        }
}

TEST(a_picture_for_the_model_is_resized_as_defined) {
    Random random(2);
    for (const Layout layout : kit::kLayouts) compare(random, layout, 240, 320, 33, -11, 257, 64, 64);
}

TEST(a_box_wholly_beyond_the_frame_is_black) {
    Random random(3);
    for (const Layout layout : kit::kLayouts)
        for (const int64_t left : {int64_t{-131072}, int64_t{-17}, int64_t{12}, int64_t{131072}}) {
            const Frame frame(random, layout, 12, 12);
            Rgb out(random, 5, 7);
            const medtex::Target target = out.target();
            medtex::crop_resize(frame.source(), left, -3, 17, target);
            for (int64_t y = 0; y < 5; ++y)
                for (int64_t x = 0; x < 7; ++x)
                    for (int c = 0; c < 3; ++c)
                        CHECK(target.at(y, x)[c * target.channel] == 0, "left", left, "at", y, x);
        }
}

TEST(the_smallest_frames_and_targets_are_resized) {
    Random random(4);
    for (const Layout layout : kit::kLayouts) {
        const int64_t least = is_paired(layout) ? 2 : 1;
        for (const int64_t side : {1, 2, 3, 300})
            for (const int64_t n : {1, 2, 9}) compare(random, layout, least, least, 0, 0, side, n, 10 - n);
    }
}

TEST(the_largest_frames_boxes_and_targets_are_resized) {
    Random random(5);
    const int64_t box = medtex::kMaxBoxSide, frame = medtex::kMaxPictureSide, target = medtex::kMaxTargetSide;
    for (const Layout layout : kit::kLayouts) {
        compare(random, layout, 2, frame - 1, -1000, -box / 2, box, 1, 3);
        compare(random, layout, frame - 1, 2, -box / 2, -5, box, 3, 2);
        compare(random, layout, 6, 8, -1, -1, 9, 1, target);
        compare(random, layout, 6, 8, -1, -1, 9, target, 1);
    }
}

TEST(white_stays_white_in_a_large_box) {
    // More rows than sums of 16 bits hold; all of them are one row's memory.
    Random random(6);
    const int64_t side = 2000;
    const std::vector<std::uint8_t> row(static_cast<std::size_t>(side), 255);
    medtex::Source frame;
    static_cast<medtex::Picture<const std::uint8_t>&>(frame) = {row.data(), side, side, 0, 1, 0};
    frame.layout = Layout::grey;
    Rgb out(random, 1, 1);
    medtex::crop_resize(frame, 0, 0, side, out.target());
    for (int c = 0; c < 3; ++c) CHECK(out.target().data[c * out.target().channel] == 255, "channel", c);
}
