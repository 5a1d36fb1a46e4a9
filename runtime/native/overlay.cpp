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

// `middle` of a pixel, or of several, in half pixels from the box's edge.
Place place(int64_t middle, int64_t side, int64_t cells) {
    // From centre to centre, in 65536ths of a cell; rounded down.
    const int64_t scaled = (middle * cells - side) * 32768;
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

// Pixels side by side in a row, and where their effect lies in the workspace.
struct Stretch {
    int64_t x;
    size_t at, pixels;
};

constexpr size_t kSlack = 8;  // bytes behind a row's effect, for what is copied too much

struct Workspace {
    std::vector<int32_t> line;         // the grid at the height of a row of pixels, times 256
    std::vector<uint8_t> levels;       // of a stretch
    std::vector<uint8_t> kept, added;  // of all stretches of a row, three bytes a pixel
    std::vector<Stretch> stretches;
};

// Blends a row whose effect was gathered pixel by pixel before: one plain loop over all bytes. Blending each pixel at
// its look-up in the table would wait at every pixel for the one before to reach memory.
MEDTEX_CLONES
void blend_row(uint8_t* __restrict pixels, const uint8_t* __restrict kept, const uint8_t* __restrict added, size_t n) {
    for (size_t i = 0; i < n; ++i)
        pixels[i] = static_cast<uint8_t>(((static_cast<uint16_t>(pixels[i] * kept[i]) + 64) >> 7) + added[i]);
}

void blend_apart(const Target& frame, int64_t y, const Stretch& stretch, const Workspace& work) {
    for (size_t i = 0; i < stretch.pixels; ++i) {
        uint8_t* pixel = frame.at(y, stretch.x + static_cast<int64_t>(i));
        for (size_t c = 0; c < 3; ++c, pixel += frame.channel) {
            const size_t at = stretch.at + 3 * i + c;
            *pixel = static_cast<uint8_t>(((*pixel * work.kept[at] + 64) >> 7) + work.added[at]);
        }
    }
}

// The levels of pixels between the centres of two cells, of 65536ths each.
MEDTEX_CLONES
void interpolate(const int32_t* __restrict fractions, int32_t base, int32_t step, uint8_t* __restrict levels, size_t n) {
    for (size_t i = 0; i < n; ++i) levels[i] = static_cast<uint8_t>((base + step * fractions[i]) >> 16);
}

// `apart` is 2 where the levels of pixels at even distances from the first are those of the next ones, else 1.
void gather_effect(const Scale::Level* scale, const uint8_t* levels, uint8_t* kept, uint8_t* added, size_t n,
                   size_t apart) {
    for (size_t i = 0; i < n; i += apart, kept += 3 * apart, added += 3 * apart) {
        const Scale::Level& level = scale[levels[i]];
        // More is copied than is meant; what comes next overwrites it.
        std::memcpy(kept, level.kept.data(), sizeof level.kept);
        std::memcpy(added, level.added.data(), sizeof level.added);
    }
}

struct Job {
    const Target& frame;
    const Map& map;
    int64_t rows, left, top, side;
    int64_t share;  // rows of the frame that have one effect; pairs of columns, where it is more than one
    const Scale& scale;
};

// The effect on rows of pixels around `middle`, in half pixels below the box's top; false where there is none.
bool set_stretches(const Job& job, int64_t middle, Workspace& work) {
    const Map& map = job.map;
    const size_t columns = map.ends.size();
    const Place at = place(middle, job.side, job.rows);
    const size_t r = static_cast<size_t>(at.cell), next = std::min(r + 1, static_cast<size_t>(job.rows - 1));
    work.stretches.clear();
    if (std::max(map.brightest[r], map.brightest[next]) < job.scale.least) return false;
    const uint8_t *above = map.levels.data() + r * columns, *below = map.levels.data() + next * columns;
    int32_t* const line = work.line.data();
    for (size_t c = 0; c < columns; ++c) line[c] = above[c] * (256 - at.fraction) + below[c] * at.fraction;
    line[columns] = line[columns - 1];
    // An interpolated value is never above its neighbours' greatest, rounded.
    const int32_t least = (job.scale.least << 8) - 128;
    const auto nothing = [&](size_t c) { return std::max(line[c], line[c + 1]) < least; };
    size_t at_pixel = 0;
    int64_t x = map.x0;
    for (size_t c = 0; c < columns;) {
        if (nothing(c)) {
            x = map.ends[c++];
            continue;
        }
        // A stretch goes on as long as there is a visible level.
        const int64_t start = x;
        for (; c < columns && !nothing(c); x = map.ends[c++]) {
            const size_t n = static_cast<size_t>(map.ends[c] - x);
            const int32_t* const fractions = map.fractions.data() + (x - map.x0);
            interpolate(fractions, line[c] * 256 + 32768, line[c + 1] - line[c],
                        work.levels.data() + static_cast<size_t>(x - start), n);
        }
        const size_t pixels = static_cast<size_t>(x - start), byte = 3 * at_pixel;
        // Of a pair that the frame's edge cuts there is one.
        const size_t single = job.share == 1 ? pixels : std::min<size_t>((start - job.left) & 1, pixels);
        uint8_t *const kept = work.kept.data() + byte, *const added = work.added.data() + byte;
        gather_effect(job.scale.levels.data(), work.levels.data(), kept, added, single, 1);
        gather_effect(job.scale.levels.data(), work.levels.data() + single, kept + 3 * single, added + 3 * single,
                pixels - single, 2);
        work.stretches.push_back({start, byte, pixels});
        at_pixel += pixels;
    }
    return !work.stretches.empty();
}

// Rows begin..end of the frame.
void draw_rows(const Job& job, int64_t begin, int64_t end) {
    thread_local Workspace work;
    const Target& frame = job.frame;
    const size_t columns = job.map.ends.size(), pixels = job.map.fractions.size();
    work.line.resize(columns + 1);
    work.levels.resize(pixels);
    work.kept.resize(3 * pixels + kSlack);
    work.added.resize(3 * pixels + kSlack);
    work.stretches.reserve(columns);
    const bool packed = frame.channel == 1 && frame.column == 3;
    for (int64_t y = begin; y < end;) {
        const int64_t first = (y - job.top) / job.share * job.share;  // of the rows that share it
        const int64_t stop = std::min(end, job.top + first + job.share);
        if (!set_stretches(job, 2 * first + job.share, work)) {
            y = stop;
            continue;
        }
        for (; y < stop; ++y) {
            for (const Stretch& each : work.stretches) {
                if (packed)
                    blend_row(frame.at(y, each.x), work.kept.data() + each.at, work.added.data() + each.at,
                              3 * each.pixels);
                else
                    blend_apart(frame, y, each, work);
            }
        }
    }
}

constexpr int64_t kSteps = 4;  // at least, of saliency from a row of cells to the next
constexpr int64_t kMostShared = 4;
constexpr int64_t kFewestRows = 32;  // less is done sooner than another thread is woken

}  // namespace

Scale::Scale(const uint8_t* table) {
    for (int k = 0; k < kLevels; ++k) {
        const uint8_t* row = table + 4 * k;
        levels[static_cast<size_t>(k)] = {{row[0], row[0], row[0], row[0], row[0], row[0], 128, 128},
                                          {row[1], row[2], row[3], row[1], row[2], row[3], 0, 0}};
        if (least == kLevels && (row[0] != 128 || row[1] || row[2] || row[3])) least = k;
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
    const int64_t finest = side / (kSteps * std::max(grid.rows, grid.columns));
    const int64_t share = std::clamp<int64_t>(finest, 1, kMostShared);
    map.fractions.resize(static_cast<size_t>(x1 - x0));
    map.ends.assign(columns, x0);
    for (int64_t x = x0; x < x1; ++x) {
        const int64_t in_box = x - left;
        const Place at = place(share > 1 ? 2 * (in_box | 1) : 2 * in_box + 1, side, grid.columns);
        map.fractions[static_cast<size_t>(x - x0)] = at.fraction;
        map.ends[static_cast<size_t>(at.cell)] = x + 1;
    }
    for (size_t c = 1; c < columns; ++c) map.ends[c] = std::max(map.ends[c], map.ends[c - 1]);
    const Job job{frame, map, grid.rows, left, top, side, share, scale};
    pool().split(y1 - y0, kFewestRows, [&](int64_t begin, int64_t end) { draw_rows(job, y0 + begin, y0 + end); });
}

}  // namespace medtex
