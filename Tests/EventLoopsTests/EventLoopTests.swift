// Jobs, timers and signals of the loop.

import EventLoops
import Glibc
import Syscalls
import SystemPackage
import Testing

@Suite struct EventLoopTests {
  let loop = EventLoop(label: "test")

  @Test func jobsRunInOrderOnTheLoop() {
    let notes = Notes<Int>()
    for number in 0..<100 {
      loop.run { [loop] in
        #expect(loop.isOnLoop)
        notes.add(number)
      }
    }
    loop.settle()
    #expect(notes.all == Array(0..<100))
    #expect(!loop.isOnLoop)
    EventLoop(label: "other").run { [loop] in #expect(!loop.isOnLoop) }
  }

  @Test func aTimerTicksUntilCancelled() {
    let ticks = Tally()
    let timer = loop.every(milliseconds: 1) { ticks.add() }
    #expect(ticks.wait(for: 3))
    let atCancel = Notes<Int>()
    loop.run {
      timer.cancel()
      atCancel.add(ticks.count)
    }
    let later = Tally()
    loop.after(milliseconds: 20) { later.add() }
    #expect(later.wait())
    #expect([ticks.count] == atCancel.all)
  }

  @Test func aDelayedJobRunsOnceAndNotEarly() {
    let start = MonotonicClock.nanoseconds
    let ran = Tally()
    loop.after(milliseconds: 5) { ran.add() }
    #expect(ran.wait())
    #expect(MonotonicClock.nanoseconds - start >= 5_000_000)
    let later = Tally()
    loop.after(milliseconds: 10) { later.add() }
    #expect(later.wait())
    #expect(ran.count == 1)
  }

  @Test func aCancelledJobNeverRuns() {
    let ran = Tally()
    let later = Tally()
    loop.after(milliseconds: 5) { ran.add() }.cancel()
    loop.after(milliseconds: 20) { later.add() }
    #expect(later.wait())
    #expect(ran.count == 0)
  }

  @Test func aTimerThatIsOverReleasesWhatItHeld() {
    final class Held: Sendable {}
    weak var held: Held?
    do {
      let strong = Held()
      held = strong
      let once = Tally()
      loop.after(milliseconds: 1) { withExtendedLifetime(strong) { once.add() } }
      loop.every(milliseconds: 3_600_000) { withExtendedLifetime(strong) {} }.cancel()
      #expect(once.wait())
    }
    #expect(eventually { held == nil })
  }

  @Test(arguments: [SIGTERM, SIGINT, SIGHUP])
  func aSignalArrivesOnTheLoop(number: Int32) async {
    await #expect(processExitsWith: .success) { [number] in
      let loop = EventLoop(label: "signals")
      let got = Tally()
      try loop.onSignal(number) {
        #expect(loop.isOnLoop)
        got.add()
      }
      kill(getpid(), number)
      #expect(got.wait())
      kill(getpid(), number)
      #expect(got.wait())
    }
  }

  @Test func aSignalThatCannotBeHandledIsRefused() {
    #expect(throws: Errno.invalidArgument) { try loop.onSignal(SIGKILL) {} }
    #expect(throws: Errno.invalidArgument) { try loop.onSignal(0) {} }
  }
}
