#include "pool.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace medtex {
namespace {

using std::int64_t;

constexpr int kDefaultMost = 4;  // a camera's pixels do not fill more, and the network wants the rest

long process() {
#if defined(__unix__) || defined(__APPLE__)
    return static_cast<long>(getpid());
#else
    return 0;
#endif
}

}  // namespace

struct Pool::State {
    // The job; written while no helper is inside, read by those that entered.
    Call call = nullptr;
    void* context = nullptr;
    int64_t count = 0, grain = 1;
    std::atomic<int64_t> next{0};
    std::atomic<bool> open{false};   // helpers may enter
    std::atomic<int> inside{0};      // helpers that have entered
    std::atomic<unsigned> calls{0};  // changes with every job: what sleeping helpers wait for
    std::atomic<bool> stopping{false};
    std::mutex busy;
    std::vector<std::thread> helpers;
    long owner = process();

    void work() {
        for (;;) {
            const int64_t begin = next.fetch_add(grain);
            if (begin >= count) return;
            call(context, begin, std::min(begin + grain, count));
        }
    }

    void help() {
        unsigned known = 0;
        for (;;) {
            calls.wait(known);
            known = calls.load();
            if (stopping) return;
            // Enter before reading `open`: the caller closes before it counts, so one of the two notices the other.
            inside.fetch_add(1);
            if (open) work();
            if (inside.fetch_sub(1) == 1) inside.notify_all();
        }
    }
};

Pool::Pool(int threads) : state_(std::make_unique<State>()) {
    for (int i = 1; i < std::min(threads, kMaxThreads); ++i)
        state_->helpers.emplace_back([state = state_.get()] { state->help(); });
}

Pool::~Pool() {
    if (state_->owner != process()) {
        // A forked child has the memory but not the threads: they cannot be joined, and must not be waited for.
        (void)state_.release();
        return;
    }
    state_->stopping = true;
    state_->calls.fetch_add(1);
    state_->calls.notify_all();
    for (std::thread& helper : state_->helpers) helper.join();
}

int Pool::threads() const { return static_cast<int>(state_->helpers.size()) + 1; }

void Pool::run(int64_t count, int64_t grain, Call call, void* context) {
    State& state = *state_;
    std::unique_lock<std::mutex> lock(state.busy, std::try_to_lock);
    if (state.helpers.empty() || count <= grain || !lock.owns_lock()) {
        if (count > 0) call(context, 0, count);
        return;
    }
    state.call = call;
    state.context = context;
    state.count = count;
    // Several parts a thread, so that a delayed one does not delay all.
    state.grain = std::max(grain, (count + 4 * threads() - 1) / (4 * threads()));
    state.next = 0;
    state.open = true;
    state.calls.fetch_add(1);
    state.calls.notify_all();
    state.work();
    state.open = false;
    for (int inside = state.inside.load(); inside != 0; inside = state.inside.load()) state.inside.wait(inside);
}

namespace {

std::mutex changing;
std::unique_ptr<Pool> current;

int usual() {
    return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kDefaultMost);
}

}  // namespace

Pool& pool() {
    const std::lock_guard lock(changing);
    if (!current) current = std::make_unique<Pool>(usual());
    return *current;
}

int set_threads(int threads) {
    const std::lock_guard lock(changing);
    const int wanted = threads > 0 ? std::min(threads, kMaxThreads) : usual();
    if (!current || current->threads() != wanted) {
        current.reset();
        current = std::make_unique<Pool>(wanted);
    }
    return wanted;
}

}  // namespace medtex
