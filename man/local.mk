dist_man_MANS += %D%/culvert.conf.5
