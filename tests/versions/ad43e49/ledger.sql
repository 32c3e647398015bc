PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE ledger (
	version INTEGER NOT NULL, 
	revision BIGINT NOT NULL
);
INSERT INTO ledger VALUES(1,3);
CREATE TABLE snapshots (
	digest VARCHAR NOT NULL, 
	settings VARCHAR NOT NULL, 
	folder VARCHAR NOT NULL, 
	PRIMARY KEY (digest)
);
INSERT INTO snapshots VALUES('62f541fa212d50ecb339d91d3ec9860e50c4f415fea2d1b43cffdafeb5628be3',replace('source:\n  kind: endpoint\n  root: output/capture/breast-cancer/AllTraffic\n  neighbours: 1\ndata:\n  dataset_type: application/jsonlines\n  dataset: /opt/shapwatch/runner/demo/baseline.jsonl\n  traffic: /opt/shapwatch/runner/demo/traffic.jsonl\n  features: features\n  columnar: false\n  label: null\n  header: false\n  content_type: application/jsonlines\n  accept_type: application/jsonlines\n  score: score\n  content_template: ''{"features":$features}''\n  record_template: null\n  ground_truth: null\n  probability_threshold: 0.5\n  max_rejected_share: 0.05\n  headers:\n  - mean radius\n  - mean texture\n  - mean perimeter\n  - mean area\n  - mean smoothness\n  - mean compactness\n  - mean concavity\n  - mean concave points\n  - mean symmetry\n  - mean fractal dimension\ndata_capture:\n  enable_capture: true\n  sampling_percentage: 100\n  capture_options:\n  - REQUEST\n  - RESPONSE\n  csv_content_types:\n  - text/csv\n  json_content_types:\n  - application/json\n  - application/jsonlines\n  flush_seconds: 10\n  queue_bytes: 268435456\n  min_free_bytes: 1073741824\nmodel:\n  kind: linear_learner\n  artifact: /opt/shapwatch/runner/demo/model.tar.gz\n  label_headers:\n  - malignant\n  deploy: null\nshap:\n  explainer: exact\n  baseline: mean\n  num_samples: null\n  agg_method: mean_abs\n  use_logit: false\n  seed: 0\n  max_batch_rows: 16000\ndrift:\n  threshold: 0.9\nmonitor:\n  name: earlier-monitor\n  endpoint: breast-cancer\n  variant: AllTraffic\n  reference: output/baseline/breast-cancer-monitor\n  keep: null\nschedule: null\nledger:\n  url: sqlite:///output/ledger.sqlite\n  busy_seconds: 30.0\n  lease_seconds: 60.0\n  keep: P365D\nreport:\n  title: Model explainability\n  max_bars: 20\npaths:\n  root: output\n  capture: output/capture\n  baseline: output/baseline/earlier-monitor\n  monitor: output/monitor\n  inspection: output/inspection\n  ground_truth: output/ground-truth/breast-cancer\n  merge: output/merge/breast-cancer/AllTraffic\n','\n',char(10)),'/srv/shapwatch');
INSERT INTO snapshots VALUES('f6651832ccdecc008386ff24c7a9ad4729f709ee2a0afb5adbf0ada2c87007fd',replace('source:\n  kind: endpoint\n  root: output/capture/breast-cancer/AllTraffic\n  neighbours: 1\ndata:\n  dataset_type: application/jsonlines\n  dataset: /opt/shapwatch/runner/demo/baseline.jsonl\n  traffic: /opt/shapwatch/runner/demo/traffic.jsonl\n  features: features\n  columnar: false\n  label: null\n  header: false\n  content_type: application/jsonlines\n  accept_type: application/jsonlines\n  score: score\n  content_template: ''{"features":$features}''\n  record_template: null\n  ground_truth: null\n  probability_threshold: 0.5\n  max_rejected_share: 0.05\n  headers:\n  - mean radius\n  - mean texture\n  - mean perimeter\n  - mean area\n  - mean smoothness\n  - mean compactness\n  - mean concavity\n  - mean concave points\n  - mean symmetry\n  - mean fractal dimension\ndata_capture:\n  enable_capture: true\n  sampling_percentage: 100\n  capture_options:\n  - REQUEST\n  - RESPONSE\n  csv_content_types:\n  - text/csv\n  json_content_types:\n  - application/json\n  - application/jsonlines\n  flush_seconds: 10\n  queue_bytes: 268435456\n  min_free_bytes: 1073741824\nmodel:\n  kind: linear_learner\n  artifact: /opt/shapwatch/runner/demo/model.tar.gz\n  label_headers:\n  - malignant\n  deploy: null\nshap:\n  explainer: exact\n  baseline: mean\n  num_samples: null\n  agg_method: mean_abs\n  use_logit: false\n  seed: 0\n  max_batch_rows: 16000\ndrift:\n  threshold: 0.9\nmonitor:\n  name: breast-cancer-monitor\n  endpoint: breast-cancer\n  variant: AllTraffic\n  reference: output/baseline/breast-cancer-monitor\n  keep: null\nschedule: null\nledger:\n  url: sqlite:///output/ledger.sqlite\n  busy_seconds: 30.0\n  lease_seconds: 60.0\n  keep: P365D\nreport:\n  title: Model explainability\n  max_bars: 20\npaths:\n  root: output\n  capture: output/capture\n  baseline: output/baseline/breast-cancer-monitor\n  monitor: output/monitor\n  inspection: output/inspection\n  ground_truth: output/ground-truth/breast-cancer\n  merge: output/merge/breast-cancer/AllTraffic\n','\n',char(10)),'/srv/shapwatch');
INSERT INTO snapshots VALUES('a5bdeec8601dcc3a3fc8a9008a1dd2d624d01032626b03001a59a5c2b8d0ab37',replace('source:\n  kind: endpoint\n  root: output/capture/breast-cancer/AllTraffic\n  neighbours: 1\ndata:\n  dataset_type: application/jsonlines\n  dataset: /opt/shapwatch/runner/demo/baseline.jsonl\n  traffic: /opt/shapwatch/runner/demo/traffic.jsonl\n  features: features\n  columnar: false\n  label: null\n  header: false\n  content_type: application/jsonlines\n  accept_type: application/jsonlines\n  score: score\n  content_template: ''{"features":$features}''\n  record_template: null\n  ground_truth: null\n  probability_threshold: 0.5\n  max_rejected_share: 0.05\n  headers:\n  - mean radius\n  - mean texture\n  - mean perimeter\n  - mean area\n  - mean smoothness\n  - mean compactness\n  - mean concavity\n  - mean concave points\n  - mean symmetry\n  - mean fractal dimension\ndata_capture:\n  enable_capture: true\n  sampling_percentage: 100\n  capture_options:\n  - REQUEST\n  - RESPONSE\n  csv_content_types:\n  - text/csv\n  json_content_types:\n  - application/json\n  - application/jsonlines\n  flush_seconds: 10\n  queue_bytes: 268435456\n  min_free_bytes: 1073741824\nmodel:\n  kind: linear_learner\n  artifact: /opt/shapwatch/runner/demo/model.tar.gz\n  label_headers:\n  - malignant\n  deploy: null\nshap:\n  explainer: exact\n  baseline: mean\n  num_samples: null\n  agg_method: mean_abs\n  use_logit: false\n  seed: 0\n  max_batch_rows: 16000\ndrift:\n  threshold: 0.9\nmonitor:\n  name: hourly-monitor\n  endpoint: breast-cancer\n  variant: AllTraffic\n  reference: output/baseline/hourly-monitor\n  keep: null\nschedule: null\nledger:\n  url: sqlite:///output/ledger.sqlite\n  busy_seconds: 30.0\n  lease_seconds: 60.0\n  keep: P365D\nreport:\n  title: Model explainability\n  max_bars: 20\npaths:\n  root: output\n  capture: output/capture\n  baseline: output/baseline/hourly-monitor\n  monitor: output/monitor\n  inspection: output/inspection\n  ground_truth: output/ground-truth/breast-cancer\n  merge: output/merge/breast-cancer/AllTraffic\n','\n',char(10)),'/srv/shapwatch');
CREATE TABLE schedules (
	name VARCHAR NOT NULL, 
	endpoint VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	timetable VARCHAR NOT NULL, 
	reference VARCHAR NOT NULL, 
	max_runtime INTEGER NOT NULL, 
	snapshot VARCHAR NOT NULL, 
	created VARCHAR(32) NOT NULL, 
	modified VARCHAR(32) NOT NULL, 
	cursor VARCHAR(32) NOT NULL, 
	revision INTEGER NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO schedules VALUES('earlier-monitor','breast-cancer','Scheduled','{"kind":"once","expression":"NOW","start":"2026-01-05T10:00:00Z","end":"2026-01-05T11:00:00Z","data_analysis_start":null,"data_analysis_end":null,"max_runtime":3600}','output/baseline/breast-cancer-monitor',3600,'62f541fa212d50ecb339d91d3ec9860e50c4f415fea2d1b43cffdafeb5628be3','2026-11-30T12:13:41.848541+00:00','2026-11-30T12:13:41.848541+00:00','2026-11-30T12:13:41.848541+00:00',1);
INSERT INTO schedules VALUES('breast-cancer-monitor','breast-cancer','Scheduled','{"kind":"once","expression":"NOW","start":"2026-01-05T09:00:00Z","end":"2026-01-05T10:00:00Z","data_analysis_start":null,"data_analysis_end":null,"max_runtime":3600}','output/baseline/breast-cancer-monitor',3600,'f6651832ccdecc008386ff24c7a9ad4729f709ee2a0afb5adbf0ada2c87007fd','2026-11-30T12:14:01.599989+00:00','2026-11-30T12:14:01.599989+00:00','2026-11-30T12:14:01.599989+00:00',1);
INSERT INTO schedules VALUES('hourly-monitor','breast-cancer','Scheduled','{"expression":"cron(0 * ? * * *)","start_offset":null,"end_offset":null,"buffer_minutes":0,"catch_up":"all","max_catch_up":24,"overlap":"wait","max_runtime":3600,"kind":"cron"}','output/baseline/hourly-monitor',3600,'a5bdeec8601dcc3a3fc8a9008a1dd2d624d01032626b03001a59a5c2b8d0ab37','2026-11-30T12:14:04.366828+00:00','2026-11-30T12:14:04.366828+00:00','2026-11-30T12:14:04.366828+00:00',1);
CREATE TABLE executions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	schedule VARCHAR NOT NULL, 
	endpoint VARCHAR NOT NULL, 
	revision INTEGER NOT NULL, 
	scheduled VARCHAR(32) NOT NULL, 
	window_start VARCHAR(32) NOT NULL, 
	window_end VARCHAR(32) NOT NULL, 
	status VARCHAR NOT NULL, 
	start_at VARCHAR(32) NOT NULL, 
	max_runtime INTEGER NOT NULL, 
	snapshot VARCHAR NOT NULL, 
	created VARCHAR(32) NOT NULL, 
	modified VARCHAR(32) NOT NULL, 
	owner VARCHAR, 
	heartbeat VARCHAR(32), 
	attempts INTEGER NOT NULL, 
	started VARCHAR(32), 
	ended VARCHAR(32), 
	peak_memory BIGINT, 
	exit_message VARCHAR, 
	failure_reason VARCHAR, 
	output VARCHAR, 
	CONSTRAINT executions_once UNIQUE (schedule, scheduled)
);
INSERT INTO executions VALUES(1,'earlier-monitor','breast-cancer',1,'2026-11-30T12:13:41.000000+00:00','2026-01-05T10:00:00.000000+00:00','2026-01-05T11:00:00.000000+00:00','Completed','2026-11-30T12:13:41.000000+00:00',3600,'62f541fa212d50ecb339d91d3ec9860e50c4f415fea2d1b43cffdafeb5628be3','2026-11-30T12:13:41.848541+00:00','2026-11-30T12:13:53.507022+00:00','host:1:d8c4c618','2026-11-30T12:13:48.145256+00:00',1,'2026-11-30T12:13:48.145256+00:00','2026-11-30T12:13:53.507022+00:00',191807488,replace('Completed, 2026-01-05 10:00–11:00 UTC. No drift: the features rank as in the reference (nDCG 0.9943, alarm below 0.9).\n  output/monitor/breast-cancer/earlier-monitor/2026/11/30/12-13-41/report.html','\n',char(10)),NULL,'/srv/shapwatch/output/monitor/breast-cancer/earlier-monitor/2026/11/30/12-13-41');
INSERT INTO executions VALUES(2,'breast-cancer-monitor','breast-cancer',1,'2026-11-30T12:14:01.000000+00:00','2026-01-05T09:00:00.000000+00:00','2026-01-05T10:00:00.000000+00:00','Pending','2026-11-30T12:14:01.000000+00:00',3600,'f6651832ccdecc008386ff24c7a9ad4729f709ee2a0afb5adbf0ada2c87007fd','2026-11-30T12:14:01.599989+00:00','2026-11-30T12:14:01.599989+00:00',NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE daemons (
	owner VARCHAR NOT NULL, 
	host VARCHAR NOT NULL, 
	pid INTEGER NOT NULL, 
	since VARCHAR(32) NOT NULL, 
	heartbeat VARCHAR(32) NOT NULL, 
	leading BOOLEAN NOT NULL, 
	PRIMARY KEY (owner)
);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('executions',2);
CREATE INDEX schedules_by_snapshot ON schedules (snapshot);
CREATE INDEX executions_by_time ON executions (scheduled);
CREATE INDEX executions_by_status ON executions (status, start_at);
CREATE INDEX executions_by_snapshot ON executions (snapshot);
COMMIT;
