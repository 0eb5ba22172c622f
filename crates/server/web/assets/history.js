// The charts of one node: which queries give their past, which fields of a live message continue them. Pure.
import { formatBytes, formatBytesPerSecond, formatBytesTick, formatLoad, formatPercent, ratioPercent } from "./format.js";
import { chooseStep } from "./series.js";
import { quote } from "./promql-text.js";

/** Pseudo file systems and images that are always full would hide the disks that matter; the server sums the same. */
const REAL_FILESYSTEMS = 'fstype!~"tmpfs|ramfs|overlay|squashfs|iso9660|nsfs|fuse.*|devtmpfs"';

/** Shortest window of a rate: two scrapes of a target with the default interval fall into it even if one is missed. */
const SHORTEST_RATE_SECONDS = 120;

/**
 * @param {string} node
 * @param {number} rangeSeconds
 * @returns {{stepSeconds: number, charts: Array<{id: string, title: string, format: (value: number|null) => string, tickFormat?: (value: number) => string, binary?: boolean, max: number|null,
 *   lines: Array<{label: string, query: string, live: (node: object) => number|null, reference?: boolean}>}>}}
 */
export function nodeCharts(node, rangeSeconds) {
  const stepSeconds = chooseStep(rangeSeconds, 180, 15);
  const window = `[${Math.max(SHORTEST_RATE_SECONDS, 2 * stepSeconds)}s]`;
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
          query: `sum(node_memory_MemTotal_bytes{${is}} - node_memory_MemAvailable_bytes{${is}})`,
          live: (n) => known(n.memoryUsedBytes),
        },
        { label: "Total", reference: true, query: `sum(node_memory_MemTotal_bytes{${is}})`, live: (n) => known(n.memoryTotalBytes) },
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
        { label: "Read", query: `sum(rate(node_disk_read_bytes_total{${is}}${window}))`, live: (n) => known(n.diskReadBytesPerSecond) },
        { label: "Write", query: `sum(rate(node_disk_written_bytes_total{${is}}${window}))`, live: (n) => known(n.diskWriteBytesPerSecond) },
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
          query: `sum(rate(node_network_receive_bytes_total{device!="lo",${is}}${window}))`,
          live: (n) => known(n.networkReceiveBytesPerSecond),
        },
        {
          label: "Out",
          query: `sum(rate(node_network_transmit_bytes_total{device!="lo",${is}}${window}))`,
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
          query: `100 * (1 - sum(node_filesystem_avail_bytes{${REAL_FILESYSTEMS},${is}}) / sum(node_filesystem_size_bytes{${REAL_FILESYSTEMS},${is}}))`,
          live: (n) => ratioPercent(n.filesystemUsedBytes, n.filesystemSizeBytes),
        },
      ],
    },
  ];
  return { stepSeconds, charts };
}
