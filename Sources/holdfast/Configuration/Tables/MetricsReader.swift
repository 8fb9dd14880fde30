// The table [metrics].

extension ConfigurationReader {
  func readMetrics(_ table: inout TableReader, _ plan: inout ServePlan) {
    let addresses = AddressReader(
      resolve: resolve, allowsPlaintext: plan.allowsPlaintext, permission: plan.plaintextPermission)
    guard let (text, line) = table.string("listen"), !text.isEmpty else { return }
    do throws(AddressMistake) { plan.metrics.listeners = try addresses.metrics(text) } catch {
      table.mistake(line, "\"listen\": \(error.clause)")
    }
  }
}
