// The field of view, found in every layout and however the bytes lie.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kit.hpp"
#include "reference.hpp"

namespace {

using kit::Frame;
using kit::Random;
using medtex::Layout;
using medtex::FovDetection;
using medtex::Status;
using std::int64_t;

// The result of `detect_fov` for the same frame as packed RGB.
FovDetection of_converted(const medtex::Source& frame) {
    std::vector<std::uint8_t> bytes;
    for (int64_t y = 0; y < frame.height; ++y)
        for (int64_t x = 0; x < frame.width; ++x)
            for (const int value : reference::colour(frame, y, x)) bytes.push_back(static_cast<std::uint8_t>(value));
    medtex::Source rgb;
    static_cast<medtex::Picture<const std::uint8_t>&>(rgb) = {bytes.data(), frame.height, frame.width,
                                                              3 * frame.width, 3, 1};
    return medtex::detect_fov(rgb);
}

bool operator==(const FovDetection& a, const FovDetection& b) {
    return a.status == b.status && a.left == b.left && a.top == b.top && a.side == b.side && a.lit == b.lit &&
           a.total == b.total && a.figure == b.figure;
}

FovDetection check_alike(const Frame& frame, Layout layout) {
    const FovDetection detection = medtex::detect_fov(frame.source());
    CHECK(detection == of_converted(frame.source()), "layout", static_cast<int>(layout), "frame", frame.height, "x",
          frame.width, "status", static_cast<int>(detection.status));
    return detection;
}

void paint_disc(Frame& frame, Random& random, double x, double y, double radius, int level) {
    for (int64_t i = 0; i < frame.height; ++i)
        for (int64_t j = 0; j < frame.width; ++j) {
            const double distance = std::hypot(static_cast<double>(j) + 0.5 - x, static_cast<double>(i) + 0.5 - y);
            const int64_t noise = random.between(-4, 4);
            const int64_t value = distance < radius ? level + noise : 18 + noise;
            frame.paint(i, j, static_cast<std::uint8_t>(value));
        }
}

}  // namespace

TEST(noise_is_looked_at_alike_in_every_layout) {
    Random random(11);
    for (const Layout layout : kit::kLayouts)
        for (int round = 0; round < 12; ++round) {
            const Frame frame(random, layout, 2 * random.between(1, 80), 2 * random.between(1, 80));
            check_alike(frame, layout);
        }
}

TEST(a_disc_is_found_where_it_was_painted_in_every_layout) {
    Random random(12);
    for (const Layout layout : kit::kLayouts)
        for (int round = 0; round < 5; ++round) {
            const int64_t height = 2 * random.between(60, 150), width = 2 * random.between(60, 150);
            Frame frame(random, layout, height, width);
            const double shorter = static_cast<double>(std::min(height, width));
            const double radius = shorter * (0.3 + 0.2 * random.unit());
            const double x = static_cast<double>(width) * (0.4 + 0.2 * random.unit());
            const double y = static_cast<double>(height) * (0.4 + 0.2 * random.unit());
            paint_disc(frame, random, x, y, radius, 150);
            const FovDetection detection = check_alike(frame, layout);
            CHECK(detection.status == Status::found, "status", static_cast<int>(detection.status));
            const double side = static_cast<double>(detection.side);
            CHECK(std::abs(side - 2 * radius) <= 4, "side", detection.side, "painted", 2 * radius);
            CHECK(std::abs(static_cast<double>(detection.left) + side / 2 - x) <= 3, "left", detection.left, "painted", x);
            CHECK(std::abs(static_cast<double>(detection.top) + side / 2 - y) <= 3, "top", detection.top, "painted", y);
            CHECK(detection.lit > 0 && detection.lit <= detection.total, "lit", detection.lit, "of", detection.total);
        }
}

TEST(frames_without_a_field_of_view_say_so) {
    Random random(13);
    for (const Layout layout : kit::kLayouts) {
        Frame black(random, layout, 64, 96), white(random, layout, 64, 96);
        for (int64_t y = 0; y < 64; ++y)
            for (int64_t x = 0; x < 96; ++x) {
                black.paint(y, x, 16);
                white.paint(y, x, 255);
            }
        CHECK(medtex::detect_fov(black.source()).status == Status::black, "layout", static_cast<int>(layout));
        CHECK(medtex::detect_fov(white.source()).status == Status::white, "layout", static_cast<int>(layout));
        CHECK(medtex::detect_fov(Frame(random, layout, 30, 200).source()).status == Status::tiny, "");
        CHECK(medtex::detect_fov(Frame(random, layout, 40, 400).source()).status == Status::strip, "");
    }
}

TEST(the_smallest_and_the_longest_frames_are_looked_at) {
    Random random(14);
    for (const Layout layout : kit::kLayouts) {
        check_alike(Frame(random, layout, 2, 2), layout);
        check_alike(Frame(random, layout, 2, medtex::kMaxPictureSide - 1), layout);
        check_alike(Frame(random, layout, medtex::kMaxPictureSide - 1, 2), layout);
        check_alike(Frame(random, layout, 32, 256), layout);
    }
    check_alike(Frame(random, Layout::rgb, 1, 1), Layout::rgb);
    check_alike(Frame(random, Layout::grey, 33, 257), Layout::grey);
}

TEST(a_disc_in_the_largest_frame_is_found) {
    // Rows of one and the same memory: 65535 pixels a side would take four gigabytes.
    const int64_t side = medtex::kMaxPictureSide;
    std::vector<std::uint8_t> row(static_cast<std::size_t>(side), 2);
    for (int64_t x = side / 4; x < side * 3 / 4; ++x) row[static_cast<std::size_t>(x)] = 150;
    medtex::Source frame;
    static_cast<medtex::Picture<const std::uint8_t>&>(frame) = {row.data(), side, side, 0, 1, 0};
    frame.layout = Layout::grey;
    const FovDetection detection = medtex::detect_fov(frame);
    CHECK(detection.status == Status::found, "status", static_cast<int>(detection.status));
    CHECK(detection.side >= side / 2 && detection.side <= medtex::kMaxBoxSide, "side", detection.side);
}
