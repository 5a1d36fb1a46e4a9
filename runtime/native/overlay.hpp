// Saliency into a frame: enlarged, mapped through a table and blended, in one pass over the pixels that it changes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "geometry.hpp"

namespace medtex {

// A grid of saliency in 0..1; strides in floats. What is no number counts as 0.
struct Grid {
    const float* data;
    std::int64_t rows, columns;
    std::ptrdiff_t row, column;
};

// What a saliency of k / 255 does to a pixel: kept[k] * pixel / 128, rounded, plus added[k], per channel as in the frame.
// kept is 0..128, and the sum at most 255 for every pixel.
struct Scale {
    static constexpr int kLevels = 256;
    struct Level {
        std::array<std::uint8_t, 8> kept, added;  // of two pixels; two bytes fill up eight
    };
    std::array<Level, kLevels> levels;
    int least = kLevels;  // below this level nothing changes

    // table: kLevels rows of kept and three times added, in the frame's order of channels.
    explicit Scale(const std::uint8_t* table);
};

inline constexpr std::int64_t kMaxGridSide = 4096;

// Draw `grid` over the box of `side` pixels at (left, top) of `frame`, which may reach beyond it. The grid's cells
// tile the box; between their centres saliency is interpolated, beyond the outermost ones it is theirs. Pixels
// that are less than a quarter of a cell apart share it, two across and at most four down. The method, to the last bit:
// medtex_edge/runtime/display/reference.py.
void draw_saliency(const Target& frame, const Grid& grid, std::int64_t left, std::int64_t top, std::int64_t side,
                   const Scale& scale);

}  // namespace medtex
