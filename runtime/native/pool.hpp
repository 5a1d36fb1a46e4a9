// A few threads that share the rows of a picture.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace medtex {

inline constexpr int kMaxThreads = 16;

// Threads that wait for work. A call is never slower than alone by more than one read of a flag: the caller takes part
// from the start and only waits for those who have begun, so that a busy machine costs it nothing.
class Pool {
public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const;

    // Calls body(begin, end) for parts of 0..count, each of at least `grain`, from several threads at once; returns
    // when all are done. The body must not throw. Calls from several threads at once are safe: one gets the helpers, the
    // others work alone. Allocates nothing.
    template <class Body>
    void split(std::int64_t count, std::int64_t grain, Body&& body) {
        run(count, grain, [](void* context, std::int64_t begin, std::int64_t end) {
            (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end);
        }, &body);
    }

private:
    using Call = void (*)(void*, std::int64_t, std::int64_t);
    struct State;

    void run(std::int64_t count, std::int64_t grain, Call call, void* context);

    std::unique_ptr<State> state_;
};

// The pool of this process, made at its first use, with the threads of `set_threads`, else one per core, at most 4.
Pool& pool();

// Threads of all later calls, the caller's included; 0: the default. Returns how many there are now. Not while a call
// is in progress.
int set_threads(int threads);

}  // namespace medtex
