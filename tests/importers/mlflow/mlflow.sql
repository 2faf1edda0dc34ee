CREATE TABLE "experiments" (
	experiment_id INTEGER NOT NULL,
	name VARCHAR(256) NOT NULL,
	artifact_location VARCHAR(256),
	lifecycle_stage VARCHAR(32),
	creation_time BIGINT,
	last_update_time BIGINT,
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL,
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id),
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')),
	CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name)
);
INSERT INTO "experiments" VALUES(0,'Default','/elsewhere/mlruns/0','active',1796181080063,1796181080063,'default');
INSERT INTO "experiments" VALUES(1,'digits','/elsewhere/mlruns/1','active',1796181080078,1796181080078,'default');
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL,
	name VARCHAR(250),
	source_type VARCHAR(20),
	source_name VARCHAR(500),
	entry_point_name VARCHAR(50),
	user_id VARCHAR(256),
	status VARCHAR(9),
	start_time BIGINT,
	end_time BIGINT,
	source_version VARCHAR(50),
	lifecycle_stage VARCHAR(20),
	artifact_uri VARCHAR(200),
	experiment_id INTEGER, deleted_time BIGINT,
	CONSTRAINT run_pk PRIMARY KEY (run_uuid),
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')),
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')),
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id),
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('0559a499443140b09e241c6378217198','first','UNKNOWN','','','somebody','FINISHED',1796181080258,1796181080459,'','active','/elsewhere/mlruns/1/0559a499443140b09e241c6378217198/artifacts',1,NULL);
INSERT INTO "runs" VALUES('4468302c37a14d74b0739a7639348101','bad','UNKNOWN','','','somebody','FAILED',1796181080478,1796181080517,'','active','/elsewhere/mlruns/1/4468302c37a14d74b0739a7639348101/artifacts',1,NULL);
INSERT INTO "runs" VALUES('e321eae8e0fb4ac09f0ec308b60a9d45','gone','UNKNOWN','','','somebody','FINISHED',1796181080542,1796181080571,'','deleted','/elsewhere/mlruns/1/e321eae8e0fb4ac09f0ec308b60a9d45/artifacts',1,1796181080594);
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL,
	value FLOAT NOT NULL,
	timestamp BIGINT NOT NULL,
	run_uuid VARCHAR(32) NOT NULL,
	step BIGINT DEFAULT '0' NOT NULL,
	is_nan BOOLEAN DEFAULT '0' NOT NULL,
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan),
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid),
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "metrics" VALUES('loss',1.0,1796181080306,'0559a499443140b09e241c6378217198',0,0);
INSERT INTO "metrics" VALUES('val/acc',0.0,1796181080306,'0559a499443140b09e241c6378217198',0,0);
INSERT INTO "metrics" VALUES('loss',0.5,1796181080334,'0559a499443140b09e241c6378217198',1,0);
INSERT INTO "metrics" VALUES('val/acc',0.2,1796181080334,'0559a499443140b09e241c6378217198',1,0);
INSERT INTO "metrics" VALUES('loss',0.3333333333333333,1796181080354,'0559a499443140b09e241c6378217198',2,0);
INSERT INTO "metrics" VALUES('val/acc',0.4,1796181080354,'0559a499443140b09e241c6378217198',2,0);
INSERT INTO "metrics" VALUES('loss',0.25,1796181080372,'0559a499443140b09e241c6378217198',3,0);
INSERT INTO "metrics" VALUES('val/acc',0.6,1796181080372,'0559a499443140b09e241c6378217198',3,0);
INSERT INTO "metrics" VALUES('loss',0.2,1796181080389,'0559a499443140b09e241c6378217198',4,0);
INSERT INTO "metrics" VALUES('val/acc',0.8,1796181080389,'0559a499443140b09e241c6378217198',4,0);
INSERT INTO "metrics" VALUES('odd',0.0,1796181080405,'0559a499443140b09e241c6378217198',1,1);
INSERT INTO "metrics" VALUES('odd',1.7976931348623157e+308,1796181080420,'0559a499443140b09e241c6378217198',2,0);
INSERT INTO "metrics" VALUES('loss',3.0,1796181080505,'4468302c37a14d74b0739a7639348101',0,0);
INSERT INTO "metrics" VALUES('loss',1.0,1796181080558,'e321eae8e0fb4ac09f0ec308b60a9d45',0,0);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL,
	value VARCHAR(8000) NOT NULL,
	run_uuid VARCHAR(32) NOT NULL,
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid),
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('lr','0.1','0559a499443140b09e241c6378217198');
INSERT INTO "params" VALUES('net','a','0559a499443140b09e241c6378217198');
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL,
	value VARCHAR(8000),
	run_uuid VARCHAR(32) NOT NULL,
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid),
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.user','somebody','0559a499443140b09e241c6378217198');
INSERT INTO "tags" VALUES('mlflow.source.name','make_mlflow.py','0559a499443140b09e241c6378217198');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','0559a499443140b09e241c6378217198');
INSERT INTO "tags" VALUES('team','vision','0559a499443140b09e241c6378217198');
INSERT INTO "tags" VALUES('mlflow.note.content','a note','0559a499443140b09e241c6378217198');
INSERT INTO "tags" VALUES('mlflow.runName','first','0559a499443140b09e241c6378217198');
INSERT INTO "tags" VALUES('mlflow.user','somebody','4468302c37a14d74b0739a7639348101');
INSERT INTO "tags" VALUES('mlflow.source.name','make_mlflow.py','4468302c37a14d74b0739a7639348101');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','4468302c37a14d74b0739a7639348101');
INSERT INTO "tags" VALUES('mlflow.runName','bad','4468302c37a14d74b0739a7639348101');
INSERT INTO "tags" VALUES('mlflow.user','somebody','e321eae8e0fb4ac09f0ec308b60a9d45');
INSERT INTO "tags" VALUES('mlflow.source.name','make_mlflow.py','e321eae8e0fb4ac09f0ec308b60a9d45');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','e321eae8e0fb4ac09f0ec308b60a9d45');
INSERT INTO "tags" VALUES('mlflow.runName','gone','e321eae8e0fb4ac09f0ec308b60a9d45');
