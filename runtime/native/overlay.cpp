#include "overlay.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "clones.hpp"
#include "pool.hpp"

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

// The map of a call, and what each thread that takes part needs. Both are kept from call to call: frames of one size
// allocate nothing after the first.
struct Map {
    std::vector<uint8_t> levels, brightest;  // of the grid; and the brightest of each of its rows
    std::vector<int32_t> fractions;          // of each visible column of the box
    std::vector<int64_t> ends;               // of each cell: its last visible column + 1
    int64_t x0 = 0;
};

struct Workspace {
    std::vector<int32_t> line;          // the grid at the height of a row of pixels, times 256
    std::vector<uint16_t> kept, added;  // of a stretch of a row
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
MEDTEX_CLONES
void blend_row(uint8_t* __restrict pixels, const uint16_t* __restrict kept, const uint16_t* __restrict added,
               size_t n) {
    for (size_t i = 0; i < n; ++i) pixels[i] = static_cast<uint8_t>((pixels[i] * kept[i] + added[i] + 128) >> 8);
}

struct Job {
    const Target& frame;
    const Map& map;
    int64_t rows, top, side;
    const Scale& scale;
};

// Rows begin..end of the frame.
void draw_rows(const Job& job, int64_t begin, int64_t end) {
    thread_local Workspace work;
    const auto& [frame, map, rows, top, side, scale] = job;
    const size_t columns = map.ends.size();
    work.line.resize(columns + 1);
    work.kept.resize(3 * map.fractions.size() + 1);
    work.added.resize(work.kept.size());
    // Pointers of their own: what is written through one might else be any of the others, and all be read anew.
    int32_t* const line = work.line.data();
    uint16_t *const kept = work.kept.data(), *const added = work.added.data();
    const int32_t* const fractions = map.fractions.data();
    const int64_t* const ends = map.ends.data();
    const Scale::Level* const levels = scale.levels.data();
    // An interpolated value is never above its neighbours' greatest, rounded.
    const int32_t least = (scale.least << 8) - 128;
    const bool packed = frame.channel == 1 && frame.column == 3;
    for (int64_t y = begin; y < end; ++y) {
        const Place at = place(y - top, side, rows);
        const size_t r = static_cast<size_t>(at.cell), next = std::min(r + 1, static_cast<size_t>(rows - 1));
        if (std::max(map.brightest[r], map.brightest[next]) < scale.least) continue;
        const uint8_t *above = map.levels.data() + r * columns, *below = map.levels.data() + next * columns;
        for (size_t c = 0; c < columns; ++c) line[c] = above[c] * (256 - at.fraction) + below[c] * at.fraction;
        line[columns] = line[columns - 1];
        int64_t x = map.x0;
        for (size_t c = 0; c < columns;) {
            if (std::max(line[c], line[c + 1]) < least) {
                x = ends[c++];
                continue;
            }
            // As far as anything is to be seen: one stretch.
            const int64_t start = x;
            size_t n = 0;
            for (; c < columns && std::max(line[c], line[c + 1]) >= least; ++c) {
                const int32_t base = line[c] * 256 + 32768, step = line[c + 1] - line[c];
                for (const int64_t stop = ends[c]; x < stop; ++x, n += 3) {
                    const Scale::Level level = levels[(base + step * fractions[x - map.x0]) >> 16];
                    if (!packed) {
                        blend(frame.at(y, x), frame.channel, level);
                        continue;
                    }
                    // Four are copied, of which the fourth is overwritten by the next pixel's first.
                    std::memcpy(kept + n, level.kept.data(), sizeof level.kept);
                    std::memcpy(added + n, level.added.data(), sizeof level.added);
                }
            }
            if (packed) blend_row(frame.at(y, start), kept, added, n);
        }
    }
}

constexpr int64_t kFewestRows = 32;  // less is done sooner than another thread is woken

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
    thread_local Map map;
    const int64_t x0 = std::clamp<int64_t>(left, 0, frame.width);
    const int64_t x1 = std::clamp<int64_t>(left + side, 0, frame.width);
    const int64_t y0 = std::clamp<int64_t>(top, 0, frame.height);
    const int64_t y1 = std::clamp<int64_t>(top + side, 0, frame.height);
    if (x0 >= x1 || y0 >= y1) return;
    const size_t columns = static_cast<size_t>(grid.columns);
    map.x0 = x0;
    map.levels.resize(static_cast<size_t>(grid.rows) * columns);
    map.brightest.assign(static_cast<size_t>(grid.rows), 0);
    for (int64_t r = 0; r < grid.rows; ++r) {
        uint8_t* to = map.levels.data() + static_cast<size_t>(r) * columns;
        uint8_t& brightest = map.brightest[static_cast<size_t>(r)];
        for (int64_t c = 0; c < grid.columns; ++c) {
            to[c] = level_of(grid.data[r * grid.row + c * grid.column]);
            brightest = std::max(brightest, to[c]);
        }
    }
    map.fractions.resize(static_cast<size_t>(x1 - x0));
    map.ends.assign(columns, x0);
    for (int64_t x = x0; x < x1; ++x) {
        const Place at = place(x - left, side, grid.columns);
        map.fractions[static_cast<size_t>(x - x0)] = at.fraction;
        map.ends[static_cast<size_t>(at.cell)] = x + 1;
    }
    for (size_t c = 1; c < columns; ++c) map.ends[c] = std::max(map.ends[c], map.ends[c - 1]);
    const Job job{frame, map, grid.rows, top, side, scale};
    pool().split(y1 - y0, kFewestRows, [&](int64_t begin, int64_t end) { draw_rows(job, y0 + begin, y0 + end); });
}

}  // namespace medtex
