// What /proc says about a process. Pure: the texts are handed in.

extension ProcessStatus {
  /// From the text of /proc/self/stat (proc(5)); nil when it is not one.
  package init?(stat: String, ticksPerSecond: Int, pageBytes: UInt64) {
    // The name of the program stands in parentheses and may have anything in it.
    guard let name = stat.lastIndex(of: ")") else { return nil }
    let fields = stat[stat.index(after: name)...].split(whereSeparator: { $0 == " " || $0 == "\n" })
    // The first of these is field 3, the state.
    func field(_ number: Int) -> UInt64? { fields.count > number - 3 ? UInt64(fields[number - 3]) : nil }
    guard let user = field(14), let system = field(15), let threads = field(20), let virtual = field(23),
      let resident = field(24), ticksPerSecond > 0
    else { return nil }
    self.init()
    cpuSeconds = Double(user &+ system) / Double(ticksPerSecond)
    self.threads = Int(clamping: threads)
    virtualBytes = virtual
    residentBytes = resident.multipliedReportingOverflow(by: pageBytes).partialValue
  }
}
