// The image geometry: find the field of view of a fundus photograph, cut its box, resize it.
//
// Knows no Python. Each function does, step for step, what its namesake in medtex_edge/image_numpy.py does, which
// is where the method is explained; the tests hold the two to the same box and the same pixels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace medtex {

// A picture of `height` x `width` pixels with three channels somewhere in memory; strides in bytes, also negative.
template <class Byte>
struct Picture {
    Byte* data;
    std::int64_t height, width;
    std::ptrdiff_t row, column, channel;

    Byte* at(std::int64_t y, std::int64_t x) const { return data + y * row + x * column; }
};
using Source = Picture<const std::uint8_t>;
using Target = Picture<std::uint8_t>;

// What `look` saw; the numbers are shared with medtex_edge/image_numpy.py.
enum class Status { found, tiny, strip, black, white, even, noise, faint, scattered, hollow };

// Where `status` is found: the square box in pixels (it may reach beyond the picture), and how many samples of its
// inscribed disc are lit, of how many in all. Else `figure` says what was seen instead.
struct Look {
    Status status = Status::found;
    std::int64_t left = 0, top = 0, side = 0;
    std::int64_t lit = 0, total = 0;
    std::int64_t figure = 0;
};

inline constexpr std::int64_t kMaxPictureSide = 65535;  // squares of doubled coordinates stay within 64 bits
inline constexpr std::int64_t kMaxBoxSide = 131072;     // a row's weighted sum stays within 32 bits
inline constexpr std::int64_t kMaxTargetSide = 16384;

// Find the field of view. The picture's sides are 1 to kMaxPictureSide. Allocates once per thread.
Look look(const Source& picture);

// Cut the box out of `picture` (black beyond it) and resize it to all of `out`, RGB. `side` is 1 to kMaxBoxSide,
// out's sides 1 to kMaxTargetSide; `bgr` is the channel order of `picture`. The two must not overlap.
void crop_resize(const Source& picture, std::int64_t left, std::int64_t top, std::int64_t side, bool bgr,
                 const Target& out);

}  // namespace medtex
