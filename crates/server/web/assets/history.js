// The charts of one node: which queries give their past, which fields of a live message continue them. Pure.
import { formatBytes, formatBytesPerSecond, formatBytesTick, formatLoad, formatPercent, ratioPercent } from "./format.js";
import { chooseStep } from "./series.js";
import { quote } from "./promql-text.js";

// The same expressions as in the server's `overview/nodes.rs`: the live values continue these lines.

/** Whole disks that are backed by something: mappings and loops would count the same bytes twice. */
const DISKS = 'device!~"dm-.*|md.*|loop.*|ram.*|sr.*"';
/** Interfaces to the outside: those of pods and bridges count the same bytes again. */
const INTERFACES = 'device!~"lo|veth.*|cali.*|cni.*|docker.*|br-.*|flannel.*|cilium.*|lxc.*|tunl.*|vxlan.*|dummy.*|nodelocaldns"';

/** Shortest window of a rate, in seconds, and how many scrapes fit into one, so that one may be lost. */
const SHORTEST_RATE_SECONDS = 120;
const SCRAPES_IN_A_RATE = 4;

/** The root file system if it is seen, otherwise all that have a device of their own. */
function filesystem(metric, is) {
  return `max(${metric}{mountpoint="/",${is}}) or sum(max by (device) (${metric}{device=~"/dev/.+",${is}}))`;
}

/**
 * @param {string} node
 * @param {number} rangeSeconds
 * @param {number} sampleIntervalMs the longest time between two scrapes
 * @returns {{stepSeconds: number, charts: Array<{id: string, title: string, format: (value: number|null) => string, tickFormat?: (value: number) => string, binary?: boolean, max: number|null,
 *   lines: Array<{label: string, query: string, live: (node: object) => number|null, reference?: boolean}>}>}}
 */
export function nodeCharts(node, rangeSeconds, sampleIntervalMs) {
  const stepSeconds = chooseStep(rangeSeconds, 180, 15);
  const window = `[${Math.max(SHORTEST_RATE_SECONDS, 2 * stepSeconds, Math.ceil((SCRAPES_IN_A_RATE * sampleIntervalMs) / 1000))}s]`;
  const is = `node=${quote(node)}`;
  const known = (value) => value ?? null;
  const charts = [
    {
      id: "cpu",
      title: "CPU",
      format: formatPercent,
      tickFormat: (value) => formatPercent(value, 0),
      max: 100,
      lines: [
        {
          label: "Used",
          query: `100 * (1 - avg(rate(node_cpu_seconds_total{mode="idle",${is}}${window})))`,
          live: (n) => known(n.cpuPercent),
        },
      ],
    },
    {
      id: "memory",
      title: "Memory",
      format: formatBytes,
      tickFormat: formatBytesTick,
      binary: true,
      max: null,
      lines: [
        {
          label: "Used",
          query: `max(node_memory_MemTotal_bytes{${is}} - node_memory_MemAvailable_bytes{${is}})`,
          live: (n) => known(n.memoryUsedBytes),
        },
        { label: "Total", reference: true, query: `max(node_memory_MemTotal_bytes{${is}})`, live: (n) => known(n.memoryTotalBytes) },
      ],
    },
    {
      id: "load",
      title: "Load",
      format: formatLoad,
      max: null,
      lines: [
        { label: "1 min", query: `max(node_load1{${is}})`, live: (n) => known(n.load1) },
        { label: "5 min", query: `max(node_load5{${is}})`, live: (n) => known(n.load5) },
        { label: "15 min", query: `max(node_load15{${is}})`, live: (n) => known(n.load15) },
      ],
    },
    {
      id: "disk",
      title: "Disk I/O",
      format: formatBytesPerSecond,
      tickFormat: (value) => `${formatBytesTick(value)}/s`,
      binary: true,
      max: null,
      lines: [
        { label: "Read", query: `sum(rate(node_disk_read_bytes_total{${DISKS},${is}}${window}))`, live: (n) => known(n.diskReadBytesPerSecond) },
        { label: "Write", query: `sum(rate(node_disk_written_bytes_total{${DISKS},${is}}${window}))`, live: (n) => known(n.diskWriteBytesPerSecond) },
      ],
    },
    {
      id: "network",
      title: "Network",
      format: formatBytesPerSecond,
      tickFormat: (value) => `${formatBytesTick(value)}/s`,
      binary: true,
      max: null,
      lines: [
        {
          label: "In",
          query: `sum(rate(node_network_receive_bytes_total{${INTERFACES},${is}}${window}))`,
          live: (n) => known(n.networkReceiveBytesPerSecond),
        },
        {
          label: "Out",
          query: `sum(rate(node_network_transmit_bytes_total{${INTERFACES},${is}}${window}))`,
          live: (n) => known(n.networkTransmitBytesPerSecond),
        },
      ],
    },
    {
      id: "filesystem",
      title: "File systems",
      format: formatPercent,
      tickFormat: (value) => formatPercent(value, 0),
      max: 100,
      lines: [
        {
          label: "Used",
          query: `100 * (1 - (${filesystem("node_filesystem_free_bytes", is)}) / (${filesystem("node_filesystem_size_bytes", is)}))`,
          live: (n) => ratioPercent(n.filesystemUsedBytes, n.filesystemSizeBytes),
        },
      ],
    },
  ];
  return { stepSeconds, charts };
}
