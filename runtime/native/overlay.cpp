#include "overlay.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace medtex {
namespace {

using std::int32_t;
using std::int64_t;
using std::size_t;
using std::uint16_t;
using std::uint32_t;
using std::uint8_t;

// Where a pixel lies between the centres of two cells: after the first one's, by `fraction` of 256.
struct Place {
    int32_t cell, fraction;
};

Place place(int64_t pixel, int64_t side, int64_t cells) {
    // Both counted from their centres, in 65536ths of a cell; rounded down.
    const int64_t scaled = ((2 * pixel + 1) * cells - side) * 32768;
    const int64_t position = std::clamp<int64_t>(scaled < 0 ? 0 : scaled / side, 0, (cells - 1) * 65536);
    return {static_cast<int32_t>(position >> 16), static_cast<int32_t>((position >> 8) & 255)};
}

uint8_t level_of(float saliency) {
    if (!(saliency > 0)) return 0;
    return static_cast<uint8_t>(std::lrintf(std::min(saliency, 1.0f) * 255.0f));
}

// Kept from call to call by each thread: frames of one size allocate nothing after the first.
struct Workspace {
    std::vector<uint8_t> levels, brightest;  // of the grid; and the brightest of each of its rows
    std::vector<int32_t> fractions;          // of each visible column of the box
    std::vector<int64_t> ends;               // of each cell: its last visible column + 1
    std::vector<int32_t> line;               // the grid at the height of a row of pixels, times 256
    std::vector<uint16_t> kept, added;       // of a stretch of a row
};

void blend(uint8_t* pixel, std::ptrdiff_t channel, const Scale::Level& level) {
    for (int c = 0; c < 3; ++c) {
        uint8_t& value = pixel[c * channel];
        value = static_cast<uint8_t>((value * level.kept[static_cast<size_t>(c)] +
                                      level.added[static_cast<size_t>(c)] + 128) >> 8);
    }
}

// What happens to the bytes of a row, side by side: looked up pixel by pixel, done to all bytes in one plain loop.
// Blending each pixel where it is looked up would wait at every pixel for the one before to reach memory.
void blend_row(uint8_t* __restrict pixels, const uint16_t* __restrict kept, const uint16_t* __restrict added,
               size_t n) {
    for (size_t i = 0; i < n; ++i) pixels[i] = static_cast<uint8_t>((pixels[i] * kept[i] + added[i] + 128) >> 8);
}

}  // namespace

Scale::Scale(const uint16_t* table) {
    for (int k = 0; k < kLevels; ++k) {
        const uint16_t* row = table + 4 * k;
        levels[static_cast<size_t>(k)] = {{row[0], row[0], row[0], 256}, {row[1], row[2], row[3], 0}};
        if (least == kLevels && (row[0] != 256 || row[1] || row[2] || row[3])) least = k;
    }
}

void draw_saliency(const Target& frame, const Grid& grid, int64_t left, int64_t top, int64_t side,
                   const Scale& scale) {
    thread_local Workspace work;
    const int64_t x0 = std::clamp<int64_t>(left, 0, frame.width);
    const int64_t x1 = std::clamp<int64_t>(left + side, 0, frame.width);
    const int64_t y0 = std::clamp<int64_t>(top, 0, frame.height);
    const int64_t y1 = std::clamp<int64_t>(top + side, 0, frame.height);
    if (x0 >= x1 || y0 >= y1) return;
    const size_t columns = static_cast<size_t>(grid.columns);
    work.levels.resize(static_cast<size_t>(grid.rows) * columns);
    work.brightest.assign(static_cast<size_t>(grid.rows), 0);
    for (int64_t r = 0; r < grid.rows; ++r) {
        uint8_t* to = work.levels.data() + static_cast<size_t>(r) * columns;
        for (int64_t c = 0; c < grid.columns; ++c) {
            to[c] = level_of(grid.data[r * grid.row + c * grid.column]);
            work.brightest[static_cast<size_t>(r)] = std::max(work.brightest[static_cast<size_t>(r)], to[c]);
        }
    }
    work.fractions.resize(static_cast<size_t>(x1 - x0));
    work.ends.assign(columns, x0);
    for (int64_t x = x0; x < x1; ++x) {
        const Place at = place(x - left, side, grid.columns);
        work.fractions[static_cast<size_t>(x - x0)] = at.fraction;
        work.ends[static_cast<size_t>(at.cell)] = x + 1;
    }
    for (size_t c = 1; c < columns; ++c) work.ends[c] = std::max(work.ends[c], work.ends[c - 1]);
    work.line.resize(columns + 1);
    work.kept.resize(static_cast<size_t>(3 * (x1 - x0) + 1));
    work.added.resize(work.kept.size());
    // An interpolated value is never above its neighbours' greatest, rounded.
    const int32_t least = (scale.least << 8) - 128;
    const bool packed = frame.channel == 1 && frame.column == 3;
    for (int64_t y = y0; y < y1; ++y) {
        const Place at = place(y - top, side, grid.rows);
        const size_t r = static_cast<size_t>(at.cell), next = std::min(r + 1, static_cast<size_t>(grid.rows - 1));
        if (std::max(work.brightest[r], work.brightest[next]) < scale.least) continue;
        const uint8_t *above = work.levels.data() + r * columns, *below = work.levels.data() + next * columns;
        for (size_t c = 0; c < columns; ++c)
            work.line[c] = above[c] * (256 - at.fraction) + below[c] * at.fraction;
        work.line[columns] = work.line[columns - 1];
        int64_t x = x0;
        for (size_t c = 0; c < columns;) {
            if (std::max(work.line[c], work.line[c + 1]) < least) {
                x = work.ends[c++];
                continue;
            }
            // As far as anything is to be seen: one stretch.
            const int64_t start = x;
            size_t n = 0;
            for (; c < columns && std::max(work.line[c], work.line[c + 1]) >= least; ++c) {
                const int32_t base = work.line[c] * 256 + 32768, step = work.line[c + 1] - work.line[c];
                for (const int64_t end = work.ends[c]; x < end; ++x, n += 3) {
                    const int32_t value = (base + step * work.fractions[static_cast<size_t>(x - x0)]) >> 16;
                    const Scale::Level& level = scale.levels[static_cast<size_t>(value)];
                    if (!packed) {
                        blend(frame.at(y, x), frame.channel, level);
                        continue;
                    }
                    // Four are copied, of which the fourth is overwritten by the next pixel's first.
                    std::memcpy(work.kept.data() + n, level.kept.data(), sizeof level.kept);
                    std::memcpy(work.added.data() + n, level.added.data(), sizeof level.added);
                }
            }
            if (packed) blend_row(frame.at(y, start), work.kept.data(), work.added.data(), n);
        }
    }
}

}  // namespace medtex
