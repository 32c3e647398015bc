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
INSERT INTO snapshots VALUES('c7609fd202c82e57568b89520c7d858aece18f5a59c4c99b43ec577f4ecaaa1a',replace('source:\n  kind: endpoint\n  root: output/capture/breast-cancer/AllTraffic\n  neighbours: 1\ndata:\n  dataset_type: application/jsonlines\n  dataset: /opt/shapwatch/runner/demo/baseline.jsonl\n  traffic: /opt/shapwatch/runner/demo/traffic.jsonl\n  features: features\n  columnar: false\n  label: null\n  header: false\n  content_type: application/jsonlines\n  accept_type: application/jsonlines\n  score: score\n  content_template: ''{"features":$features}''\n  record_template: null\n  ground_truth: null\n  probability_threshold: 0.5\n  max_rejected_share: 0.05\n  headers:\n  - mean radius\n  - mean texture\n  - mean perimeter\n  - mean area\n  - mean smoothness\n  - mean compactness\n  - mean concavity\n  - mean concave points\n  - mean symmetry\n  - mean fractal dimension\ndata_capture:\n  enable_capture: true\n  sampling_percentage: 100\n  capture_options:\n  - REQUEST\n  - RESPONSE\n  csv_content_types:\n  - text/csv\n  json_content_types:\n  - application/json\n  - application/jsonlines\n  flush_seconds: 10\n  queue_bytes: 268435456\n  min_free_bytes: 1073741824\nmodel:\n  kind: linear_learner\n  artifact: /opt/shapwatch/runner/demo/model.tar.gz\n  label_headers:\n  - malignant\n  deploy: null\nshap:\n  explainer: exact\n  compat: null\n  baseline: mean\n  num_samples: null\n  agg_method: mean_abs\n  use_logit: false\n  seed: 0\n  max_batch_rows: 16000\n  save_local_shap_values: false\ndrift:\n  threshold: 0.9\n  false_alarms_per_year: 1.0\n  min_rows: 30\n  material: 0.1\n  severe: 0.25\n  material_mass: 0.5\n  severe_mass: 1.0\n  permutations: 999\n  datapoints_to_alert: 1\n  evaluation_period: 1\n  segment_by: null\n  classifier: false\n  unit: record\n  reference_rows: 1000\n  canary_rows: 20\n  seed: 0\nmonitor:\n  name: earlier-monitor\n  endpoint: breast-cancer\n  variant: AllTraffic\n  reference: output/baseline/breast-cancer-monitor\n  keep: null\nschedule: null\nledger:\n  url: sqlite:///output/ledger.sqlite\n  busy_seconds: 30.0\n  lease_seconds: 60.0\n  keep: P365D\nreport:\n  title: Model explainability\n  max_bars: 20\n  templates: null\npaths:\n  root: output\n  capture: output/capture\n  baseline: output/baseline/earlier-monitor\n  monitor: output/monitor\n  inspection: output/inspection\n  ground_truth: output/ground-truth/breast-cancer\n  merge: output/merge/breast-cancer/AllTraffic\npublish: {}\n','\n',char(10)),'/srv/shapwatch');
INSERT INTO snapshots VALUES('effcecd1142d82c20200d0a30cad4a97d77fb7055e7b1d8c38b6c4cdb525e3c0',replace('source:\n  kind: endpoint\n  root: output/capture/breast-cancer/AllTraffic\n  neighbours: 1\ndata:\n  dataset_type: application/jsonlines\n  dataset: /opt/shapwatch/runner/demo/baseline.jsonl\n  traffic: /opt/shapwatch/runner/demo/traffic.jsonl\n  features: features\n  columnar: false\n  label: null\n  header: false\n  content_type: application/jsonlines\n  accept_type: application/jsonlines\n  score: score\n  content_template: ''{"features":$features}''\n  record_template: null\n  ground_truth: null\n  probability_threshold: 0.5\n  max_rejected_share: 0.05\n  headers:\n  - mean radius\n  - mean texture\n  - mean perimeter\n  - mean area\n  - mean smoothness\n  - mean compactness\n  - mean concavity\n  - mean concave points\n  - mean symmetry\n  - mean fractal dimension\ndata_capture:\n  enable_capture: true\n  sampling_percentage: 100\n  capture_options:\n  - REQUEST\n  - RESPONSE\n  csv_content_types:\n  - text/csv\n  json_content_types:\n  - application/json\n  - application/jsonlines\n  flush_seconds: 10\n  queue_bytes: 268435456\n  min_free_bytes: 1073741824\nmodel:\n  kind: linear_learner\n  artifact: /opt/shapwatch/runner/demo/model.tar.gz\n  label_headers:\n  - malignant\n  deploy: null\nshap:\n  explainer: exact\n  compat: null\n  baseline: mean\n  num_samples: null\n  agg_method: mean_abs\n  use_logit: false\n  seed: 0\n  max_batch_rows: 16000\n  save_local_shap_values: false\ndrift:\n  threshold: 0.9\n  false_alarms_per_year: 1.0\n  min_rows: 30\n  material: 0.1\n  severe: 0.25\n  material_mass: 0.5\n  severe_mass: 1.0\n  permutations: 999\n  datapoints_to_alert: 1\n  evaluation_period: 1\n  segment_by: null\n  classifier: false\n  unit: record\n  reference_rows: 1000\n  canary_rows: 20\n  seed: 0\nmonitor:\n  name: breast-cancer-monitor\n  endpoint: breast-cancer\n  variant: AllTraffic\n  reference: output/baseline/breast-cancer-monitor\n  keep: null\nschedule: null\nledger:\n  url: sqlite:///output/ledger.sqlite\n  busy_seconds: 30.0\n  lease_seconds: 60.0\n  keep: P365D\nreport:\n  title: Model explainability\n  max_bars: 20\n  templates: null\npaths:\n  root: output\n  capture: output/capture\n  baseline: output/baseline/breast-cancer-monitor\n  monitor: output/monitor\n  inspection: output/inspection\n  ground_truth: output/ground-truth/breast-cancer\n  merge: output/merge/breast-cancer/AllTraffic\npublish: {}\n','\n',char(10)),'/srv/shapwatch');
INSERT INTO snapshots VALUES('e69caafbe473f38deba0a7e389c933d0a35ccb0a1d763fab75c2e60138a1caf0',replace('source:\n  kind: endpoint\n  root: output/capture/breast-cancer/AllTraffic\n  neighbours: 1\ndata:\n  dataset_type: application/jsonlines\n  dataset: /opt/shapwatch/runner/demo/baseline.jsonl\n  traffic: /opt/shapwatch/runner/demo/traffic.jsonl\n  features: features\n  columnar: false\n  label: null\n  header: false\n  content_type: application/jsonlines\n  accept_type: application/jsonlines\n  score: score\n  content_template: ''{"features":$features}''\n  record_template: null\n  ground_truth: null\n  probability_threshold: 0.5\n  max_rejected_share: 0.05\n  headers:\n  - mean radius\n  - mean texture\n  - mean perimeter\n  - mean area\n  - mean smoothness\n  - mean compactness\n  - mean concavity\n  - mean concave points\n  - mean symmetry\n  - mean fractal dimension\ndata_capture:\n  enable_capture: true\n  sampling_percentage: 100\n  capture_options:\n  - REQUEST\n  - RESPONSE\n  csv_content_types:\n  - text/csv\n  json_content_types:\n  - application/json\n  - application/jsonlines\n  flush_seconds: 10\n  queue_bytes: 268435456\n  min_free_bytes: 1073741824\nmodel:\n  kind: linear_learner\n  artifact: /opt/shapwatch/runner/demo/model.tar.gz\n  label_headers:\n  - malignant\n  deploy: null\nshap:\n  explainer: exact\n  compat: null\n  baseline: mean\n  num_samples: null\n  agg_method: mean_abs\n  use_logit: false\n  seed: 0\n  max_batch_rows: 16000\n  save_local_shap_values: false\ndrift:\n  threshold: 0.9\n  false_alarms_per_year: 1.0\n  min_rows: 30\n  material: 0.1\n  severe: 0.25\n  material_mass: 0.5\n  severe_mass: 1.0\n  permutations: 999\n  datapoints_to_alert: 1\n  evaluation_period: 1\n  segment_by: null\n  classifier: false\n  unit: record\n  reference_rows: 1000\n  canary_rows: 20\n  seed: 0\nmonitor:\n  name: hourly-monitor\n  endpoint: breast-cancer\n  variant: AllTraffic\n  reference: output/baseline/hourly-monitor\n  keep: null\nschedule: null\nledger:\n  url: sqlite:///output/ledger.sqlite\n  busy_seconds: 30.0\n  lease_seconds: 60.0\n  keep: P365D\nreport:\n  title: Model explainability\n  max_bars: 20\n  templates: null\npaths:\n  root: output\n  capture: output/capture\n  baseline: output/baseline/hourly-monitor\n  monitor: output/monitor\n  inspection: output/inspection\n  ground_truth: output/ground-truth/breast-cancer\n  merge: output/merge/breast-cancer/AllTraffic\npublish: {}\n','\n',char(10)),'/srv/shapwatch');
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
INSERT INTO schedules VALUES('earlier-monitor','breast-cancer','Scheduled','{"kind":"once","expression":"NOW","start":"2026-01-05T10:00:00Z","end":"2026-01-05T11:00:00Z","data_analysis_start":null,"data_analysis_end":null,"max_runtime":3600}','output/baseline/breast-cancer-monitor',3600,'c7609fd202c82e57568b89520c7d858aece18f5a59c4c99b43ec577f4ecaaa1a','2026-11-30T12:12:58.449189+00:00','2026-11-30T12:12:58.449189+00:00','2026-11-30T12:12:58.449189+00:00',1);
INSERT INTO schedules VALUES('breast-cancer-monitor','breast-cancer','Scheduled','{"kind":"once","expression":"NOW","start":"2026-01-05T09:00:00Z","end":"2026-01-05T10:00:00Z","data_analysis_start":null,"data_analysis_end":null,"max_runtime":3600}','output/baseline/breast-cancer-monitor',3600,'effcecd1142d82c20200d0a30cad4a97d77fb7055e7b1d8c38b6c4cdb525e3c0','2026-11-30T12:13:18.841100+00:00','2026-11-30T12:13:18.841100+00:00','2026-11-30T12:13:18.841100+00:00',1);
INSERT INTO schedules VALUES('hourly-monitor','breast-cancer','Scheduled','{"expression":"cron(0 * ? * * *)","start_offset":null,"end_offset":null,"buffer_minutes":0,"catch_up":"all","max_catch_up":24,"overlap":"wait","max_runtime":3600,"kind":"cron"}','output/baseline/hourly-monitor',3600,'e69caafbe473f38deba0a7e389c933d0a35ccb0a1d763fab75c2e60138a1caf0','2026-11-30T12:13:25.371611+00:00','2026-11-30T12:13:25.371611+00:00','2026-11-30T12:13:25.371611+00:00',1);
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
	lease_seconds FLOAT, 
	attempts INTEGER NOT NULL, 
	started VARCHAR(32), 
	ended VARCHAR(32), 
	peak_memory BIGINT, 
	exit_message VARCHAR, 
	failure_reason VARCHAR, 
	output VARCHAR, 
	CONSTRAINT executions_once UNIQUE (schedule, scheduled)
);
INSERT INTO executions VALUES(1,'earlier-monitor','breast-cancer',1,'2026-11-30T12:12:58.000000+00:00','2026-01-05T10:00:00.000000+00:00','2026-01-05T11:00:00.000000+00:00','Completed','2026-11-30T12:12:58.000000+00:00',3600,'c7609fd202c82e57568b89520c7d858aece18f5a59c4c99b43ec577f4ecaaa1a','2026-11-30T12:12:58.449189+00:00','2026-11-30T12:13:05.814045+00:00','host:1:741cc8b6','2026-11-30T12:13:02.157039+00:00',60.0,1,'2026-11-30T12:13:02.157039+00:00','2026-11-30T12:13:05.814045+00:00',268230656,replace('Completed, 2026-01-05 10:00–11:00 UTC. No drift: 2.8% of the attention moved, chance alone moves up to 5.9%; a change in 30% of the records of a feature would have been seen (nDCG 0.9943, alarm below 0.9).\n  output/monitor/breast-cancer/earlier-monitor/2026/11/30/12-12-58/report.html','\n',char(10)),NULL,'/srv/shapwatch/output/monitor/breast-cancer/earlier-monitor/2026/11/30/12-12-58');
INSERT INTO executions VALUES(2,'breast-cancer-monitor','breast-cancer',1,'2026-11-30T12:13:18.000000+00:00','2026-01-05T09:00:00.000000+00:00','2026-01-05T10:00:00.000000+00:00','Pending','2026-11-30T12:13:18.000000+00:00',3600,'effcecd1142d82c20200d0a30cad4a97d77fb7055e7b1d8c38b6c4cdb525e3c0','2026-11-30T12:13:18.841100+00:00','2026-11-30T12:13:18.841100+00:00',NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL);
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
CREATE INDEX executions_by_status ON executions (status, start_at);
CREATE INDEX executions_by_end ON executions (ended);
CREATE INDEX executions_by_snapshot ON executions (snapshot);
COMMIT;
