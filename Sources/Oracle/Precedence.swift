// Which requests must have come before which others, as far as that is certain.

/// A partial order of requests, each of which takes effect at one moment between its invocation and its completion.
///
/// It knows an order for one of two reasons: the latest moment of one is before the earliest of the other, or a chain of
/// learned facts leads from one to the other. Learning a fact narrows the moments of both, so the two reasons together
/// find everything that follows.
struct Precedence {
  /// Event numbers between which a request took effect.
  private(set) var earliest: [UInt64]
  private(set) var latest: [UInt64]
  /// Learned facts that the event numbers alone do not tell.
  private var followers: [[Int]]
  private var leaders: [[Int]]

  init(invoked: [UInt64], completed: [UInt64]) {
    earliest = invoked
    latest = completed
    followers = Array(repeating: [], count: invoked.count)
    leaders = followers
  }

  /// Whether `one` certainly took effect before `other`.
  func isKnown(_ one: Int, before other: Int) -> Bool {
    if latest[one] < earliest[other] { return true }
    if followers[one].isEmpty || leaders[other].isEmpty { return false }
    var reached: Set<Int> = [one]
    var open = [one]
    while let at = open.popLast() {
      for next in followers[at] where earliest[next] < latest[other] {
        if next == other { return true }
        if reached.insert(next).inserted { open.append(next) }
      }
    }
    return false
  }

  enum Lesson {
    case old
    case new
    case impossible
  }

  /// Adds that `one` took effect before `other`; `impossible` if the opposite is known.
  mutating func learn(_ one: Int, before other: Int) -> Lesson {
    if one == other || isKnown(other, before: one) { return .impossible }
    if isKnown(one, before: other) { return .old }
    followers[one].append(other)
    leaders[other].append(one)
    delay(other, after: earliest[one])
    hasten(one, before: latest[other])
    return .new
  }

  private mutating func delay(_ request: Int, after moment: UInt64) {
    guard earliest[request] < moment else { return }
    earliest[request] = moment
    for follower in followers[request] { delay(follower, after: moment) }
  }

  private mutating func hasten(_ request: Int, before moment: UInt64) {
    guard latest[request] > moment else { return }
    latest[request] = moment
    for leader in leaders[request] { hasten(leader, before: moment) }
  }
}
