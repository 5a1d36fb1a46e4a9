// The circle that most points of an outline lie on. The method: medtex_edge/image/circle.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace medtex {

inline constexpr int kMaxOutline = 4 * 256;  // the ends of each row and column of samples

// Points in doubled pixels from the centre of a frame of `height` x `width`, so that the sums of their fourth
// powers stay within 64 bits.
struct Outline {
    std::int64_t height = 0, width = 0;
    int size = 0;
    std::array<std::int64_t, kMaxOutline> x, y;

    void add(std::int64_t doubled_x, std::int64_t doubled_y) {
        x[static_cast<std::size_t>(size)] = doubled_x - width;
        y[static_cast<std::size_t>(size)] = doubled_y - height;
        ++size;
    }
};

struct Circle {
    double x, y, radius;  // doubled pixels, from the frame's corner
};

std::optional<Circle> fit_circle(const Outline& outline);

}  // namespace medtex
